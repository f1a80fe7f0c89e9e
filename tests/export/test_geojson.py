import gzip
import json
from uuid import UUID

import numpy as np
import pytest
from rasterio.features import rasterize
from rasterio.transform import Affine
from shapely import make_valid, unary_union
from shapely.geometry import shape

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError, MissingResolutionError, OutputError
from napari_wsss.export import export_geojson

CLASSES = ClassTable.from_names(["tumour", "Stroma, rein – ß"], colors=["#d55e00", "#009e73"])


@pytest.fixture
def labels():
    """Two classes with wavy borders, holes, background and a part not computed."""
    y, x = np.mgrid[:60, :90]
    wave = np.sin(x / 7) + np.cos(y / 5) + np.sin((x + 2 * y) / 11)
    array = np.select([wave > 0.7, wave > -0.6], [1, 2], 0).astype(np.uint8)
    array[:10, :10] = 255
    return array


def _read(path):
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return json.loads(text)


def test_features_are_what_qupath_reads(tmp_path, labels):
    path = tmp_path / "regions.geojson"
    count = export_geojson(labels, path, CLASSES, mpp_labels=2.0, scale=4)
    data = _read(path)
    assert data["type"] == "FeatureCollection"
    assert len(data["features"]) == count > 2
    for feature in data["features"]:
        assert set(feature) == {"type", "id", "geometry", "properties"}
        assert feature["type"] == "Feature"
        properties = feature["properties"]
        assert properties["objectType"] == "annotation"
        assert properties["isLocked"] is False
        kind = properties["classification"]
        assert kind in (
            {"name": "tumour", "color": [213, 94, 0]},
            {"name": "Stroma, rein – ß", "color": [0, 158, 115]},
        )
        assert feature["geometry"]["type"] == "Polygon"
        for ring in feature["geometry"]["coordinates"]:
            assert ring[0] == ring[-1]
            assert len(ring) >= 5
        outline = shape(feature["geometry"])
        assert outline.is_valid
        assert outline.exterior.is_ccw
        measured = properties["measurements"]
        assert measured["Area px^2"] == pytest.approx(outline.area)
        # 4 slide pixels are one label pixel of 2 µm
        assert measured["Area mm^2"] == pytest.approx(outline.area / 16 * 4e-6)
    ids = [UUID(feature["id"]) for feature in data["features"]]
    assert len(set(ids)) == count


@pytest.mark.parametrize(
    ("scale", "offset"), [(1, (0, 0)), (4.0, (100, 30)), ((4.0007, 3.9993), (0.5, 1000.25))]
)
def test_slide_coordinates_lead_back_to_the_labels(tmp_path, labels, scale, offset):
    path = tmp_path / "a.geojson"
    export_geojson(labels, path, CLASSES, scale=scale, offset=offset, block_px=32)
    sy, sx = scale if isinstance(scale, tuple) else (scale, scale)
    value = {name: i + 1 for i, name in enumerate(CLASSES.names)}
    drawn = rasterize(
        [
            (f["geometry"], value[f["properties"]["classification"]["name"]])
            for f in _read(path)["features"]
        ],
        labels.shape,
        transform=Affine(sx, 0, offset[1], 0, sy, offset[0]),
        dtype="uint8",
    )
    np.testing.assert_array_equal(drawn, np.where(labels == 255, 0, labels))


def test_neighbouring_classes_share_their_borders_exactly(tmp_path, labels):
    labels = np.where(labels == 1, 1, 2).astype(np.uint8)
    export_geojson(labels, tmp_path / "a.geojson", CLASSES, scale=3)
    outlines = [shape(f["geometry"]) for f in _read(tmp_path / "a.geojson")["features"]]
    whole = unary_union(outlines)
    assert whole.area == sum(o.area for o in outlines) == labels.size * 9
    assert whole.equals(whole.envelope)


def test_simplified_outlines_are_valid_shorter_and_near(tmp_path, labels):
    export_geojson(labels, tmp_path / "exact.geojson", CLASSES)
    export_geojson(labels, tmp_path / "simple.geojson", CLASSES, simplify_px=1.5)
    exact, simple = (_read(tmp_path / f"{n}.geojson")["features"] for n in ("exact", "simple"))
    assert len(exact) == len(simple)
    vertices = [0, 0]
    for a, b in zip(exact, simple, strict=True):
        one, two = shape(a["geometry"]), shape(b["geometry"])
        assert two.is_valid
        assert make_valid(one).hausdorff_distance(two) <= 1.5 + 1e-9
        assert a["properties"]["measurements"] == b["properties"]["measurements"]
        vertices[0] += len(one.exterior.coords)
        vertices[1] += len(two.exterior.coords)
    assert vertices[1] < vertices[0] / 2


def test_compressed_file_holds_the_same_and_its_bytes_repeat(tmp_path, labels):
    export_geojson(labels, tmp_path / "a.geojson", CLASSES, block_px=16)
    export_geojson(labels, tmp_path / "a.geojson.gz", CLASSES)
    export_geojson(labels, tmp_path / "b.geojson.gz", CLASSES, block_px=33)
    plain, zipped = ((tmp_path / n).read_bytes() for n in ("a.geojson", "a.geojson.gz"))
    assert gzip.decompress(zipped) == plain
    assert zipped == (tmp_path / "b.geojson.gz").read_bytes()


def test_zarr_and_dask_arrays_give_the_same(tmp_path, labels):
    import dask.array as da
    import zarr

    stored = zarr.create_array(
        tmp_path / "l.zarr", shape=labels.shape, chunks=(16, 16), shards=(32, 32), dtype="uint8"
    )
    stored[:] = labels
    for name, array in [("np", labels), ("zarr", stored), ("dask", da.from_zarr(stored))]:
        export_geojson(array, tmp_path / name, CLASSES, block_px=32)
    assert (tmp_path / "np").read_bytes() == (tmp_path / "zarr").read_bytes()
    assert (tmp_path / "np").read_bytes() == (tmp_path / "dask").read_bytes()


def test_slide_without_classes_gives_an_empty_collection(tmp_path):
    path = tmp_path / "a.geojson"
    assert export_geojson(np.zeros((5, 5), np.uint8), path, CLASSES) == 0
    assert _read(path) == {"type": "FeatureCollection", "features": []}


def test_existing_file_is_kept_unless_told_otherwise(tmp_path, labels):
    path = tmp_path / "a.geojson"
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        export_geojson(labels, path, CLASSES)
    assert path.read_text() == "mine"
    export_geojson(labels, path, CLASSES, overwrite=True)
    assert _read(path)["features"]


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"scale": 0}, DataError, "scale"),
        ({"scale": float("nan")}, DataError, "scale"),
        ({"mpp_labels": 0}, MissingResolutionError, "µm/px"),
        ({"min_area_px": -1}, DataError, "min_area_px"),
        ({"simplify_px": float("nan")}, DataError, "simplify_px"),
        ({"offset": (0, float("inf"))}, DataError, "offset"),
    ],
)
def test_bad_numbers_are_refused_and_nothing_is_left(tmp_path, labels, options, error, says):
    with pytest.raises(error, match=says):
        export_geojson(labels, tmp_path / "a.geojson", CLASSES, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.geojson", "a.geojson.gz"])
def test_labels_that_do_not_fit_keep_the_previous_file(tmp_path, labels, name):
    labels[-1, -1] = 9
    (tmp_path / name).write_text("previous")
    with pytest.raises(DataError, match="hold 9"):
        export_geojson(labels, tmp_path / name, CLASSES, overwrite=True, block_px=16)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["previous"]
