"""Results for other programs: GeoJSON for QuPath, areas as CSV, labels as OME-Zarr."""

from napari_wsss.export.areas import class_areas, export_csv
from napari_wsss.export.geojson import export_geojson
from napari_wsss.export.label_image import export_ome_zarr
from napari_wsss.export.picture import export_picture
from napari_wsss.export.polygons import Region, polygons_from_labels

__all__ = [
    "Region",
    "class_areas",
    "export_csv",
    "export_geojson",
    "export_ome_zarr",
    "export_picture",
    "polygons_from_labels",
]
