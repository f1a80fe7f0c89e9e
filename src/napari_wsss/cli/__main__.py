"""``python -m napari_wsss.cli``: the command line where no script is on the path."""

from napari_wsss.cli import main

if __name__ == "__main__":
    main()
