"""How the dashboard's panels look: one builder for each way to show an answer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")

NOTHING = "no reading"

GOOD, BAD, LATE, PLAIN = "green", "red", "orange", "text"
SERIES_BLUE = "blue"

# Seconds of silence: one report is late, two are missing.
_LATE_AFTER, _MISSING_AFTER = 70 * 60, 2 * 3600


Panel = stat.Panel | timeseries.Panel | bargauge.Panel | statetimeline.Panel | table.Panel
P = TypeVar("P", stat.Panel, timeseries.Panel, bargauge.Panel, statetimeline.Panel, table.Panel)


@dataclass(frozen=True, slots=True)
class Query:
    """One question of a panel.

    Args:
        expr: PromQL.
        legend: what its series are called, labels in `{{...}}`.
    """

    expr: str
    legend: str = "__auto"


@dataclass(frozen=True, slots=True)
class Text:
    """What a panel says about itself.

    Args:
        title: its heading.
        description: what it counts, and from where.
        nothing: what stands there where no query has an answer.
    """

    title: str
    description: str
    nothing: str = NOTHING


@dataclass(frozen=True, slots=True)
class Size:
    """A panel's size on the grid of 24 columns."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Args:
        field: the label, or `Value #A` for the value of query A.
        name: its heading.
        unit: of its numbers.
        width: in pixels, or 0 for what is left.
        properties: further properties of its cells.
    """

    field: str
    name: str
    unit: str = ""
    width: int = 0
    properties: Mapping[str, Any] | None = None


def tile(text: Text, size: Size, total: str, change: str) -> stat.Panel:
    """Show a number, its change below it, and a word where the figures are switched off."""
    off = models.SpecialValueMap(
        models.DashboardSpecialValueMapOptions(
            models.SpecialValueMatch.NULL_AND_NAN,
            models.ValueMappingResult(text="usage off", color=PLAIN, index=0),
        )
    )
    panel = (
        stat.Panel()
        .graph_mode(shapes.BigValueGraphMode.NONE)
        .color_mode(shapes.BigValueColorMode.VALUE)
        .text_mode(shapes.BigValueTextMode.VALUE_AND_NAME)
        .justify_mode(shapes.BigValueJustifyMode.AUTO)
        .orientation(shapes.VizOrientation.VERTICAL)
        .wide_layout(wide_layout=False)
        .reduce_options(common.ReduceDataOptions().calcs(["last"]).values(values=False))
        .unit("locale")
        .decimals(0)
        .mappings([off])
        .thresholds(_thresholds((None, PLAIN)))
        .override_by_query("B", _properties({"color": _by_thresholds(), "thresholds": _CHANGE}))
    )
    _ask(panel, [Query(total, "now"), Query(change, "change")], instant=True)
    return _finish(panel, text, size)


_CHANGE = {
    "mode": "absolute",
    "steps": [
        {"value": None, "color": LATE},
        {"value": 0, "color": PLAIN},
        {"value": 1, "color": GOOD},
    ],
}


def age(text: Text, size: Size, query: Query) -> stat.Panel:
    """Show ages in seconds, coloured by what they mean to an hourly report."""
    panel = (
        stat.Panel()
        .graph_mode(shapes.BigValueGraphMode.NONE)
        .color_mode(shapes.BigValueColorMode.VALUE)
        .text_mode(shapes.BigValueTextMode.VALUE_AND_NAME)
        .wide_layout(wide_layout=False)
        .reduce_options(common.ReduceDataOptions().calcs(["last"]).values(values=False))
        .unit("s")
        .decimals(1)
        .thresholds(_thresholds((None, GOOD), (_LATE_AFTER, LATE), (_MISSING_AFTER, BAD)))
    )
    _ask(panel, [query], instant=True)
    return _finish(panel, text, size)


def lines(
    text: Text, size: Size, queries: Sequence[Query], unit: str, line_width: int = 2
) -> timeseries.Panel:
    """Show figures over time, each held until the next report.

    Args:
        text: what the panel says.
        size: its size.
        queries: each answers with one line or several.
        unit: Grafana's; `locale` for whole numbers.
        line_width: 1 where there may be many lines.
    """
    panel = (
        timeseries.Panel()
        .draw_style(shapes.GraphDrawStyle.LINE)
        .line_interpolation(shapes.LineInterpolation.STEP_AFTER)
        .line_width(line_width)
        .show_points(shapes.VisibilityMode.NEVER)
        .unit(unit)
        .tooltip(_tooltip())
        .legend(_legend())
    )
    if unit == "locale":
        panel.decimals(0)
    _ask(panel, queries, instant=False)
    return _finish(panel, text, size)


def bars(
    text: Text, size: Size, queries: Sequence[Query], unit: str, interval: str
) -> timeseries.Panel:
    """Show amounts, one bar an interval, standing where the interval was."""
    panel = (
        timeseries.Panel()
        .draw_style(shapes.GraphDrawStyle.BARS)
        .bar_alignment(shapes.BarAlignment.BEFORE)
        .bar_width_factor(0.8)
        .line_width(0)
        .fill_opacity(80)
        .show_points(shapes.VisibilityMode.NEVER)
        .axis_soft_max(5)
        .decimals(0)
        .stacking(common.StackingConfig().mode(shapes.StackingMode.NORMAL).group("A"))
        .unit(unit)
        .min(0)
        .interval(interval)
        # As many as there are intervals: a coarser step would leave some out.
        .max_data_points(1500)
        .tooltip(_tooltip())
        .legend(_legend())
    )
    _ask(panel, queries, instant=False)
    return _finish(panel, text, size)


def ranking(text: Text, size: Size, query: Query, unit: str) -> bargauge.Panel:
    """Show amounts by name, the largest first."""
    panel = (
        bargauge.Panel()
        .orientation(shapes.VizOrientation.HORIZONTAL)
        .display_mode(shapes.BarGaugeDisplayMode.BASIC)
        .value_mode(shapes.BarGaugeValueMode.TEXT)
        .name_placement(shapes.BarGaugeNamePlacement.LEFT)
        .show_unfilled(show_unfilled=False)
        .reduce_options(common.ReduceDataOptions().calcs(["last"]).values(values=False))
        .color_scheme(
            dashboard.FieldColor().mode(models.FieldColorModeId.FIXED).fixed_color(SERIES_BLUE)
        )
        .text(common.VizTextDisplayOptions().title_size(14).value_size(14))
        .unit(unit)
        .decimals(0)
        .min(0)
    )
    _ask(panel, [query], instant=True)
    return _finish(panel, text, size)


def timeline(
    text: Text, size: Size, query: Query, states: Mapping[int, tuple[str, str]]
) -> statetimeline.Panel:
    """Show states over time, one row a series.

    Args:
        text: what the panel says.
        size: its size.
        query: answers with the states' numbers.
        states: word and colour of each number.
    """
    results = {
        str(number): models.ValueMappingResult(text=word, color=colour, index=index)
        for index, (number, (word, colour)) in enumerate(states.items())
    }
    panel = (
        statetimeline.Panel()
        .mappings([models.ValueMap(results)])
        .merge_values(merge_values=True)
        .show_value(shapes.VisibilityMode.NEVER)
        .row_height(0.7)
        .line_width(0)
        .fill_opacity(80)
        .per_page(20)
        .unit("none")
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .interval("30m")
        .max_data_points(1500)
        .tooltip(_tooltip())
        .legend(_legend())
    )
    _ask(panel, [query], instant=False)
    return _finish(panel, text, size)


def rows(
    text: Text, size: Size, queries: Iterable[str], columns: Sequence[Column], sort_by: str
) -> table.Panel:
    """Show one row an instance, joined from several queries over the labels that all have."""
    panel = table.Panel().unit("none").show_header(show_header=True)
    for letter, expr in zip("ABCDEF", queries, strict=False):
        panel.with_target(
            prometheus.Dataquery()
            .expr(expr)
            .instant()
            .format(PromQueryFormat.TABLE)
            .ref_id(letter)
            .datasource(SOURCE)
        )
    panel.with_transformation(models.DataTransformerConfig("merge", options={}))
    panel.with_transformation(_only(columns))
    for column in columns:
        panel.override_by_name(column.name, _properties(_column_properties(column)))
    panel.sort_by([common.TableSortByFieldState().display_name(sort_by).desc(desc=True)])
    return _finish(panel, text, size)


def _only(columns: Sequence[Column]) -> models.DataTransformerConfig:
    names = [column.field for column in columns]
    options = {
        "includeByName": dict.fromkeys(names, True),
        "indexByName": {name: index for index, name in enumerate(names)},
        "renameByName": {column.field: column.name for column in columns},
    }
    return models.DataTransformerConfig("organize", options=options)


def _column_properties(column: Column) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    if column.unit:
        properties["unit"] = column.unit
    if column.width:
        properties["custom.width"] = column.width
    return properties | dict(column.properties or {})


def coloured_text() -> dict[str, Any]:
    """Properties of a cell whose text is coloured by its thresholds or mappings."""
    return {"custom.cellOptions": {"type": "color-text"}, "custom.align": "left"}


def ages() -> dict[str, Any]:
    """Properties of a cell with the age of a report."""
    steps = ((None, GOOD), (_LATE_AFTER, LATE), (_MISSING_AFTER, BAD))
    return coloured_text() | {
        "decimals": 1,
        "color": _by_thresholds(),
        "thresholds": {
            "mode": "absolute",
            "steps": [{"value": value, "color": colour} for value, colour in steps],
        },
    }


def words(states: Mapping[int, tuple[str, str]]) -> dict[str, Any]:
    """Properties of a cell that shows a word for a number."""
    options = {
        str(number): {"text": word, "color": colour, "index": index}
        for index, (number, (word, colour)) in enumerate(states.items())
    }
    return coloured_text() | {"mappings": [{"type": "value", "options": options}]}


def _ask(panel: P, queries: Sequence[Query], *, instant: bool) -> None:
    for letter, query in zip("ABCDEF", queries, strict=False):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend)
        target = target.ref_id(letter).datasource(SOURCE)
        panel.with_target(target.instant() if instant else target.range())


def _finish(panel: P, text: Text, size: Size) -> P:
    return (
        panel.title(text.title)
        .description(text.description)
        .no_value(text.nothing)
        .datasource(SOURCE)
        .span(size.width)
        .height(size.height)
    )


def _thresholds(*steps: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    absolute = dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE)
    return absolute.steps([models.Threshold(value, colour) for value, colour in steps])


def _by_thresholds() -> dict[str, str]:
    return {"mode": "thresholds"}


def _properties(properties: Mapping[str, Any]) -> list[models.DynamicConfigValue]:
    return [models.DynamicConfigValue(name, value) for name, value in properties.items()]


def _tooltip() -> common.VizTooltipOptions:
    many = common.VizTooltipOptions().mode(shapes.TooltipDisplayMode.MULTI)
    return many.sort(shapes.SortOrder.DESCENDING)


def _legend() -> common.VizLegendOptions:
    listed = common.VizLegendOptions().display_mode(shapes.LegendDisplayMode.LIST)
    return listed.placement(shapes.LegendPlacement.BOTTOM).show_legend(show_legend=True).calcs([])
