using System.Globalization;
using System.Net;
using System.Text;

namespace PciOperator.Tests.Monitoring;

/// <summary>
/// The dashboard as a page: each panel where its gridPos says, with what Prometheus answers to its queries. Draws what dashboard.json uses of
/// Grafana's (stat, timeseries, table), and refuses what it doesn't know.
/// </summary>
internal sealed class DashboardPicture(PrometheusServer prometheus)
{
    public const int Width = (24 * Column) + Gap;
    private const int Column = 66;
    private const int Row = 38;
    private const int Gap = 8;
    private const int Header = 30;
    private const int Legend = 22;
    private const int Left = 64;
    private const int Below = 20;

    // Grafana's classic palette, and its names of threshold colours.
    private static readonly string[] Palette =
    [
        "#56A64B",
        "#F2CC0C",
        "#5794F2",
        "#FF780A",
        "#E02F44",
        "#1F60C4",
        "#B877D9",
        "#8F3BB8",
        "#37872D",
        "#A16A00",
        "#8AB8FF",
        "#C4162A",
        "#7A5195",
        "#3F6833",
        "#808080",
    ];
    private static readonly Dictionary<string, string> Named = new()
    {
        ["green"] = "#37872D",
        ["red"] = "#C4162A",
        ["orange"] = "#E55400",
        ["blue"] = "#1F60C4",
    };

    /// <summary>How high the page is.</summary>
    public static int Height => (Dashboard.Panels().Max(p => p.Y + p.H) * Row) + Gap;

    public async Task<string> DrawAsync()
    {
        var page = new StringBuilder(
            """
            <!doctype html><meta charset="utf-8"><style>
            body { margin: 0; background: #f4f5f5; font: 12px "DejaVu Sans", sans-serif; color: #24292e }
            .panel { position: absolute; box-sizing: border-box; background: #fff; border: 1px solid #dde; border-radius: 2px; overflow: hidden }
            h2 { font-size: 13px; font-weight: 500; margin: 7px 10px; height: 16px; white-space: nowrap }
            .stat { font-size: 46px; text-align: center; line-height: 84px }
            .legend { position: absolute; left: 10px; right: 6px; bottom: 4px; display: flex; flex-wrap: wrap; column-gap: 12px; font-size: 11px; line-height: 17px }
            .legend i { display: inline-block; width: 12px; height: 3px; margin: 0 5px 3px 0 }
            table { width: calc(100% - 16px); margin: 0 8px; border-collapse: collapse } th { text-align: left; color: #1F60C4; font-weight: 500 }
            td, th { padding: 4px 8px; border-bottom: 1px solid #eee } .number { text-align: right }
            svg text { font-size: 10.5px; fill: #555 }
            </style>
            """
        );
        foreach (Panel panel in Dashboard.Panels())
        {
            string inside = panel.Type switch
            {
                "stat" => await StatAsync(panel),
                "timeseries" => await GraphAsync(panel),
                "table" => await TableAsync(panel),
                _ => throw new InvalidOperationException($"'{panel.Title}' is a {panel.Type}, which nobody draws here"),
            };
            page.Append(
                CultureInfo.InvariantCulture,
                $"<div class=panel style='left:{(panel.X * Column) + Gap}px;top:{(panel.Y * Row) + Gap}px;width:{(panel.W * Column) - Gap}px;height:{(panel.H * Row) - Gap}px'><h2>{Text(panel.Title)}</h2>{inside}</div>\n"
            );
        }

        return page.ToString();
    }

    private async Task<string> StatAsync(Panel panel)
    {
        double value = (await prometheus.AtAsync(panel.Targets[0].Expression)).First().Value;
        string color = panel.Thresholds.Last(t => t.From is null || value >= t.From).Color;
        return $"<div class=stat style='color:{Named[color]}'>{Format(value, panel.Unit, value)}</div>";
    }

    private async Task<string> TableAsync(Panel panel)
    {
        var rows = new List<Dictionary<string, string>>();
        foreach (Target target in panel.Targets)
        {
            string value = panel.Targets.Count > 1 ? $"Value #{target.Id}" : "Value";
            foreach (Series series in await prometheus.AtAsync(target.Expression))
                rows.Add(new(series.Labels) { [value] = Format(series.Value, panel.Unit, series.Value) });
        }

        var columns = rows.SelectMany(r => r.Keys).Distinct().ToList();
        return "<table><tr>"
            + string.Concat(columns.Select(c => $"<th{Align(c)}>{Text(panel.Renamed.GetValueOrDefault(c, c))}</th>"))
            + "</tr>"
            + string.Concat(
                rows.Select(r => $"<tr>{string.Concat(columns.Select(c => $"<td{Align(c)}>{Text(r.GetValueOrDefault(c, ""))}</td>"))}</tr>")
            )
            + "</table>";

        static string Align(string column) => column.StartsWith("Value", StringComparison.Ordinal) ? " class=number" : "";
    }

    private async Task<string> GraphAsync(Panel panel)
    {
        var lines = new List<(string Name, IReadOnlyList<(double At, double Value)> Points)>();
        foreach (Target target in panel.Targets)
        {
            foreach (Series series in await prometheus.OverAsync(target.Expression))
                lines.Add((target.Name(series.Labels), series.Points));
        }

        int width = (panel.W * Column) - Gap - 2;
        // Names need room, more of them another line.
        int names = 1 + (lines.Sum(l => 32 + (l.Name.Length * 7)) / (width - 24));
        int height = (panel.H * Row) - Gap - Header - (Legend * names) + (names > 1 ? 4 * names : 0);
        double top = panel.Max ?? Nice(Highest(lines.Select(l => l.Points), panel.Stacked));
        var drawing = new StringBuilder();
        double plot = height - Below - 6;
        for (int tick = 0; tick <= 4; tick++)
        {
            double y = 6 + (plot * (4 - tick) / 4);
            drawing.Append(
                CultureInfo.InvariantCulture,
                $"<path d='M{Left} {y:0.#}H{width - 10}' stroke='#e6e6e6'/><text x='{Left - 6}' y='{y + 4:0.#}' text-anchor='end'>{Text(Format(top * tick / 4, panel.Unit, top))}</text>"
            );
        }

        for (DateTimeOffset at = Hour(prometheus.Start); at <= prometheus.End; at = at.AddHours(1))
        {
            if (at >= prometheus.Start)
            {
                drawing.Append(
                    CultureInfo.InvariantCulture,
                    $"<text x='{X(at.ToUnixTimeSeconds()):0.#}' y='{height - 4}' text-anchor='middle'>{at:HH:mm}</text>"
                );
            }
        }

        var below = new Dictionary<double, double>();
        foreach (((string Name, IReadOnlyList<(double At, double Value)> Points) line, int index) in lines.Select((l, i) => (l, i)))
        {
            string color = Palette[index % Palette.Length];
            foreach (List<(double At, double Value)> part in Parts(line.Points))
            {
                IEnumerable<string> upper = part.Select(p => At(p.At, (panel.Stacked ? below.GetValueOrDefault(p.At) : 0) + p.Value));
                IEnumerable<string> lower = part.AsEnumerable()
                    .Reverse()
                    .Select(p => At(p.At, panel.Stacked ? below.GetValueOrDefault(p.At) : 0));
                string path = string.Join('L', upper);
                drawing.Append(
                    CultureInfo.InvariantCulture,
                    $"<path d='M{path}L{string.Join('L', lower)}Z' fill='{color}' fill-opacity='{panel.Fill / 100.0}'/><path d='M{path}' fill='none' stroke='{color}' stroke-width='{panel.LineWidth}'/>"
                );
            }

            if (panel.Stacked)
            {
                foreach ((double at, double value) in line.Points.Where(p => double.IsFinite(p.Value)))
                    below[at] = below.GetValueOrDefault(at) + value;
            }
        }

        string legend = string.Concat(
            lines.Select((l, i) => $"<span><i style='background:{Palette[i % Palette.Length]}'></i>{Text(l.Name)}</span>")
        );
        return $"<svg width={width} height={height}>{drawing}</svg><div class=legend>{legend}</div>";

        double X(double at) =>
            Left + ((width - Left - 10) * (at - prometheus.Start.ToUnixTimeSeconds()) / (prometheus.End - prometheus.Start).TotalSeconds);
        string At(double at, double value) =>
            string.Create(CultureInfo.InvariantCulture, $"{X(at):0.#} {6 + (plot * (1 - Math.Clamp(value / top, 0, 1))):0.#}");
    }

    /// <summary>What has a value one after the other; a point alone is not to be seen, as in Grafana without points.</summary>
    private static IEnumerable<List<(double At, double Value)>> Parts(IReadOnlyList<(double At, double Value)> points)
    {
        var part = new List<(double At, double Value)>();
        foreach ((double At, double Value) point in points)
        {
            bool joins = double.IsFinite(point.Value) && (part.Count == 0 || point.At - part[^1].At <= PrometheusServer.Step);
            if (!joins && part.Count > 1)
                yield return part;
            if (!joins)
                part = [];
            if (double.IsFinite(point.Value))
                part.Add(point);
        }

        if (part.Count > 1)
            yield return part;
    }

    private static double Highest(IEnumerable<IReadOnlyList<(double At, double Value)>> lines, bool stacked)
    {
        IEnumerable<(double At, double Value)> points = lines.SelectMany(l => l).Where(p => double.IsFinite(p.Value));
        return stacked
            ? points.GroupBy(p => p.At).Select(g => g.Sum(p => p.Value)).DefaultIfEmpty(0).Max()
            : points.Select(p => p.Value).DefaultIfEmpty(0).Max();
    }

    /// <summary>A round number above all of them, a quarter of which is one, too.</summary>
    private static double Nice(double highest)
    {
        if (highest <= 0)
            return 4;
        double ten = Math.Pow(10, Math.Floor(Math.Log10(Math.Max(highest, 1e-6))));
        return new[] { 1, 1.2, 2, 4, 8, 12 }.Select(n => n * ten).First(n => n >= highest);
    }

    private static string Format(double value, string? unit, double highest) =>
        (unit, highest) switch
        {
            ("s", < 1) => $"{Number(value * 1000)} ms",
            ("s", < 120) => $"{Number(value)} s",
            ("s", _) => $"{Number(value / 60)} min",
            ("reqps", _) => $"{Number(value)} req/s",
            (null or "short", _) => Number(value),
            _ => throw new InvalidOperationException($"'{unit}' is a unit that nobody writes here"),
        };

    private static string Number(double value) => value.ToString("0.###", CultureInfo.InvariantCulture);

    private static DateTimeOffset Hour(DateTimeOffset time) => new(time.Year, time.Month, time.Day, time.Hour, 0, 0, time.Offset);

    private static string Text(string text) => WebUtility.HtmlEncode(text);
}
