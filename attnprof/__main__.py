"""Runs `attnprof`, and `python -m attnprof`."""

from attnprof.import_path import use_search_path


def main() -> None:
    """Run the command line with the modules that are installed, whatever is in the current folder or PYTHONPATH."""
    use_search_path()
    from attnprof.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
