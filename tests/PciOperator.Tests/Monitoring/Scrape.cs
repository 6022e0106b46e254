using System.Globalization;
using System.Net;
using System.Text.RegularExpressions;
using PciOperator.Kubernetes;
using Prometheus;

namespace PciOperator.Tests.Monitoring;

/// <summary>One sample as a program prints it.</summary>
internal sealed record Sample(string Name, IReadOnlyDictionary<string, string> Labels, double Value);

/// <summary>A metric: its name, type and explanation, and the labels of its samples.</summary>
internal sealed record Family(string Name, string Type, string Help, IReadOnlyList<string> Labels);

/// <summary>What a program answers at <c>/metrics</c>, at one moment.</summary>
internal sealed partial class Scrape
{
    private Scrape(string text, string instance, DateTimeOffset at)
    {
        (Text, Instance, At) = (text, instance, at);
        Samples =
        [
            .. text.Split('\n')
                .Where(l => l.Length > 0 && l[0] != '#')
                .Select(l => Line().Match(l))
                .Select(m => new Sample(
                    m.Groups["name"].Value,
                    Label().Matches(m.Groups["labels"].Value).ToDictionary(l => l.Groups[1].Value, l => l.Groups[2].Value),
                    double.Parse(m.Groups["value"].Value, CultureInfo.InvariantCulture)
                )),
        ];
    }

    public string Text { get; }

    /// <summary>Who answered.</summary>
    public string Instance { get; }

    public DateTimeOffset At { get; }

    public IReadOnlyList<Sample> Samples { get; }

    /// <summary>Asks the real endpoint over what a program shows.</summary>
    public static async Task<Scrape> OfAsync(CollectorRegistry metrics, string instance, DateTimeOffset at)
    {
        await using var server = new HealthServer(
            new HealthServerOptions
            {
                Address = IPAddress.Loopback,
                Port = 0,
                OnlyMetrics = true,
            },
            metrics
        );
        await server.StartAsync();
        using var http = new HttpClient();
        return new Scrape(await http.GetStringAsync(new Uri($"http://127.0.0.1:{server.Port}/metrics")), instance, at);
    }

    public IReadOnlyList<Family> Families()
    {
        Dictionary<string, string> types = Said("# TYPE ");
        return
        [
            .. Said("# HELP ")
                .Select(h => new Family(
                    h.Key,
                    types[h.Key],
                    h.Value,
                    [
                        .. Samples
                            .Where(s => s.Name == h.Key || (types[h.Key] == "histogram" && s.Name == h.Key + "_count"))
                            .SelectMany(s => s.Labels.Keys)
                            .Distinct(),
                    ]
                )),
        ];
    }

    private Dictionary<string, string> Said(string what) =>
        Text.Split('\n')
            .Where(l => l.StartsWith(what, StringComparison.Ordinal))
            .Select(l => l[what.Length..].Split(' ', 2))
            .ToDictionary(l => l[0], l => l[1]);

    [GeneratedRegex("""^(?<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?<labels>.*)\})? (?<value>\S+)$""")]
    private static partial Regex Line();

    [GeneratedRegex("""([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)",?""")]
    private static partial Regex Label();
}
