"""Results for other programs: GeoJSON for QuPath, areas as CSV."""

from napari_wsss.export.areas import class_areas, export_csv
from napari_wsss.export.geojson import export_geojson
from napari_wsss.export.polygons import Region, polygons_from_labels

__all__ = ["Region", "class_areas", "export_csv", "export_geojson", "polygons_from_labels"]
