"""`python -m bursar` and the `bursar` command."""

from bursar.cli import run


def main() -> None:
    run()


if __name__ == "__main__":
    main()
