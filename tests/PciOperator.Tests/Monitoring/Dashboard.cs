using System.Text.Json;

namespace PciOperator.Tests.Monitoring;

/// <summary>config/monitoring/dashboard.json.</summary>
internal static class Dashboard
{
    public static readonly string File = Path.Combine(Alerts.Folder, "dashboard.json");

    /// <summary>What its panels ask, with Grafana's variables filled in.</summary>
    public static IReadOnlyList<string> Expressions()
    {
        using var dashboard = JsonDocument.Parse(System.IO.File.ReadAllText(File));
        return
        [
            .. dashboard
                .RootElement.GetProperty("panels")
                .EnumerateArray()
                .SelectMany(p => p.GetProperty("targets").EnumerateArray())
                .Select(t => t.GetProperty("expr").GetString()!.Replace("$__rate_interval", "5m", StringComparison.Ordinal)),
        ];
    }
}
