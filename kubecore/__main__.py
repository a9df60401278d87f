"""Where the process starts: as `python -m kubecore`, and as the console script `kubecore`."""

import gc
import signal


def main() -> None:
    """Run the command line; its status becomes the process's."""
    # Until a command has something to clean up and handles it itself, Ctrl-C just ends the process: no traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # A start makes objects that stay; to go through them a hundred times meanwhile takes a tenth of it.
    gc.set_threshold(50_000)
    from kubecore.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
