"""What ten million jobs a day would take: measured costs, a simulation, a page."""
