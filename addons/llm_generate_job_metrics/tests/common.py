from prometheus_client.parser import text_string_to_metric_families

#: Labels, in the order in which the tests name them; the format sorts them.
LABELS = ("provider", "runner", "state", "health", "outcome", "error", "kind", "le")


def read_metrics(text):
    """Return {sample's name: {its labels' values: value}} of an exposition."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = tuple(sample.labels[name] for name in LABELS if name in sample.labels)
            found.setdefault(sample.name, {})[key] = sample.value
    return found
