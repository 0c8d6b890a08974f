from steelyard.cli.label_places import Box, Label, label_places

FRAME = Box(0, 0, 400, 300)


def _placed(*points: tuple[float, float]) -> tuple[list[Label], list[Box], list[Box]]:
    labels = [Label(x, y, 80, 10) for x, y in points]
    markers = [Box(x, y, x, y).grown(4) for x, y in points]
    return labels, markers, label_places(labels, FRAME, markers, [])


def test_labels_of_points_in_a_heap_cover_neither_each_other_nor_a_point() -> None:
    """Eight variants within a few points of each other, all of them readable."""
    heap = [(200 + 3 * n, 150 + 5 * (n % 3)) for n in range(8)]
    _, markers, boxes = _placed(*heap)
    for n, box in enumerate(boxes):
        assert FRAME.holds(box)
        assert not any(box.meets(other) for other in boxes[:n])
        assert not any(box.meets(marker) for marker in markers)


def test_a_point_at_the_edge_is_named_inside_of_the_frame() -> None:
    """In each corner."""
    _, _, boxes = _placed((5, 5), (395, 5), (5, 295), (395, 295))
    assert all(FRAME.holds(box) for box in boxes)


def test_a_lone_point_is_named_beside_it_without_a_line() -> None:
    """Where two are near each other, a line says whose label it is."""
    (label,), _, (box,) = _placed((200, 150))
    assert not label.doubtful(box, [label])
    labels, _, boxes = _placed((200, 150), (203, 150))
    assert all(one.doubtful(box, labels) for one, box in zip(labels, boxes, strict=True))


def test_the_same_points_are_named_in_the_same_places() -> None:
    """A picture drawn again has the same bytes."""
    points = [(50.0 * n, 40.0 * (n % 4) + 20) for n in range(1, 7)]
    assert _placed(*points)[2] == _placed(*points)[2]
