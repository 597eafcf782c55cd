"""Say how large and how entangled the house is, beside its bars: python dev/measure_house.py."""

from lib import house
from lib.say import run_main, say


def main():
    for name, figure in house.measure().items():
        bar = house.BARS.get(name)
        limit = f"at most {bar:,}" if bar else ""
        say(f"{name:<26}{figure:>8,}   {limit}")


if __name__ == "__main__":
    run_main(main)
