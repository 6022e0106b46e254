using System.Text.Json;
using System.Text.RegularExpressions;

namespace PciOperator.Tests.Monitoring;

/// <summary>A panel, as far as dashboard.json uses them.</summary>
internal sealed record Panel(string Type, string Title, int X, int Y, int W, int H, IReadOnlyList<Target> Targets)
{
    public string? Unit { get; init; }

    public double? Max { get; init; }

    public int LineWidth { get; init; }

    /// <summary>Of 100.</summary>
    public int Fill { get; init; }

    public bool Stacked { get; init; }

    /// <summary>From which value on which colour is shown; the first is for all below.</summary>
    public IReadOnlyList<(double? From, string Color)> Thresholds { get; init; } = [];

    /// <summary>Columns of a table that have other names.</summary>
    public IReadOnlyDictionary<string, string> Renamed { get; init; } = new Dictionary<string, string>();
}

/// <summary>A query of a panel, with Grafana's variables filled in.</summary>
internal sealed partial record Target(string Id, string Expression, string? Legend)
{
    /// <summary>What a series is called.</summary>
    public string Name(IReadOnlyDictionary<string, string> labels) =>
        Placeholder().Replace(Legend ?? "", m => labels.GetValueOrDefault(m.Groups[1].Value, ""));

    [GeneratedRegex(@"\{\{\s*(\w+)\s*\}\}")]
    private static partial Regex Placeholder();
}

/// <summary>config/monitoring/dashboard.json.</summary>
internal static class Dashboard
{
    public static readonly string File = Path.Combine(Alerts.Folder, "dashboard.json");

    /// <summary>What its panels ask.</summary>
    public static IReadOnlyList<string> Expressions() => [.. Panels().SelectMany(p => p.Targets).Select(t => t.Expression)];

    public static IReadOnlyList<Panel> Panels()
    {
        using var dashboard = JsonDocument.Parse(System.IO.File.ReadAllText(File));
        return [.. dashboard.RootElement.GetProperty("panels").EnumerateArray().Select(Read)];
    }

    private static Panel Read(JsonElement panel)
    {
        JsonElement at = panel.GetProperty("gridPos");
        JsonElement defaults = panel.GetProperty("fieldConfig").GetProperty("defaults");
        JsonElement? custom = Find(defaults, "custom");
        return new Panel(
            panel.GetProperty("type").GetString()!,
            panel.GetProperty("title").GetString()!,
            at.GetProperty("x").GetInt32(),
            at.GetProperty("y").GetInt32(),
            at.GetProperty("w").GetInt32(),
            at.GetProperty("h").GetInt32(),
            [
                .. panel
                    .GetProperty("targets")
                    .EnumerateArray()
                    .Select(t => new Target(
                        t.GetProperty("refId").GetString()!,
                        t.GetProperty("expr").GetString()!.Replace("$__rate_interval", "5m", StringComparison.Ordinal),
                        Find(t, "legendFormat")?.GetString()
                    )),
            ]
        )
        {
            Unit = Find(defaults, "unit")?.GetString(),
            Max = Find(defaults, "max")?.GetDouble(),
            LineWidth = Find(custom, "lineWidth")?.GetInt32() ?? 1,
            Fill = Find(custom, "fillOpacity")?.GetInt32() ?? 0,
            Stacked = Find(Find(custom, "stacking"), "mode")?.GetString() == "normal",
            Thresholds =
            [
                .. Find(Find(defaults, "thresholds"), "steps")
                    ?.EnumerateArray()
                    .Select(s =>
                        (
                            s.GetProperty("value") is { ValueKind: JsonValueKind.Number } v ? v.GetDouble() : (double?)null,
                            s.GetProperty("color").GetString()!
                        )
                    )
                    ?? [],
            ],
            Renamed =
                Find(panel, "transformations")
                    ?.EnumerateArray()
                    .Select(t => Find(t.GetProperty("options"), "renameByName"))
                    .FirstOrDefault(r => r is not null)
                    ?.EnumerateObject()
                    .ToDictionary(r => r.Name, r => r.Value.GetString()!)
                ?? [],
        };
    }

    private static JsonElement? Find(JsonElement? of, string name) =>
        of is { ValueKind: JsonValueKind.Object } o && o.TryGetProperty(name, out JsonElement found) ? found : null;
}
