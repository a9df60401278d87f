"""Where the process starts: as `python -m kubecore`, and as the console script `kubecore`."""

import signal


def main() -> None:
    """Run the command line; its status becomes the process's."""
    # Until a command has something to clean up and handles it itself, Ctrl-C just ends the process: no traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from kubecore.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
