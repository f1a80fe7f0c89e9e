"""What napari shows: readers, sample data and panels. No method logic lives here."""
