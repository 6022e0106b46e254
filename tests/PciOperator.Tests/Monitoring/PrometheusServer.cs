using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using PciOperator.Testing;

namespace PciOperator.Tests.Monitoring;

/// <summary>A series that Prometheus answers with.</summary>
internal sealed record Series(IReadOnlyDictionary<string, string> Labels, IReadOnlyList<(double At, double Value)> Points)
{
    public double Value => Points[^1].Value;
}

/// <summary>
/// A real Prometheus over looks at a cluster that were taken one after the other: its history is as if each had been there for some minutes, and
/// had been scraped each minute.
/// </summary>
internal sealed class PrometheusServer : IAsyncDisposable
{
    /// <summary>Seconds between two scrapes, and between two points of an answer.</summary>
    public const int Step = 60;

    private const int MinutesEach = 15;
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);
    private readonly string _folder = Directory.CreateTempSubdirectory("pci-prometheus-").FullName;
    private readonly HttpClient _http = new();
    private Process? _process;

    private PrometheusServer(int looks) => End = Start.AddMinutes(looks * MinutesEach).AddSeconds(-Step);

    /// <summary>When its history begins: a round time, and the same for each.</summary>
    public DateTimeOffset Start { get; } = new(2026, 1, 5, 8, 0, 0, TimeSpan.Zero);

    public DateTimeOffset End { get; }

    /// <summary>Starts one.</summary>
    /// <param name="looks">What was scraped, of each program once a look.</param>
    /// <param name="names">Which metrics are kept.</param>
    /// <param name="goesOn">Timestamps that move on while a look lasts.</param>
    public static async Task<PrometheusServer> StartAsync(
        IReadOnlyList<IReadOnlyList<Scrape>> looks,
        Func<string, bool> names,
        Func<string, bool> goesOn
    )
    {
        var server = new PrometheusServer(looks.Count);
        try
        {
            string file = Path.Combine(server._folder, "history");
            await File.WriteAllTextAsync(file, server.History(looks, names, goesOn));
            string data = Path.Combine(server._folder, "data");
            (int code, string said) = await Promtool.RunAsync(null, "tsdb", "create-blocks-from", "openmetrics", file, data);
            Assert.True(code == 0, said);
            await server.ServeAsync(data);
            return server;
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }
    }

    /// <summary>What it answers at the end.</summary>
    public Task<IReadOnlyList<Series>> AtAsync(string expression) => AskAsync("query", $"&time={End.ToUnixTimeSeconds()}", expression);

    /// <summary>What it answers over the whole of its history.</summary>
    public Task<IReadOnlyList<Series>> OverAsync(string expression) =>
        AskAsync("query_range", $"&start={Start.ToUnixTimeSeconds()}&end={End.ToUnixTimeSeconds()}&step={Step}", expression);

    public async ValueTask DisposeAsync()
    {
        if (_process is not null)
        {
            _process.Kill();
            await _process.WaitForExitAsync();
            _process.Dispose();
        }

        _http.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    /// <summary>Samples as OpenMetrics has them, with their times.</summary>
    private string History(IReadOnlyList<IReadOnlyList<Scrape>> looks, Func<string, bool> names, Func<string, bool> goesOn)
    {
        var text = new StringBuilder();
        for (int minute = 0; minute < looks.Count * MinutesEach; minute++)
        {
            long at = Start.AddMinutes(minute).ToUnixTimeSeconds();
            foreach (Scrape scrape in looks[minute / MinutesEach])
            {
                foreach (Sample sample in scrape.Samples.Where(s => names(s.Name)))
                {
                    double value =
                        !sample.Name.EndsWith("_timestamp_seconds", StringComparison.Ordinal) ? sample.Value
                        : goesOn(sample.Name) ? at + sample.Value - (scrape.At.ToUnixTimeMilliseconds() / 1000.0)
                        : Moved(sample.Value, looks);
                    string labels = string.Join(
                        ',',
                        sample.Labels.Append(new("instance", scrape.Instance)).Select(l => $"{l.Key}=\"{l.Value}\"")
                    );
                    text.Append(CultureInfo.InvariantCulture, $"{sample.Name}{{{labels}}} {value} {at}\n");
                }
            }
        }

        return text.Append("# EOF\n").ToString();
    }

    /// <summary>When in the history something was that was between two looks.</summary>
    private double Moved(double time, IReadOnlyList<IReadOnlyList<Scrape>> looks)
    {
        int look = looks.TakeWhile(l => l[0].At.ToUnixTimeMilliseconds() / 1000.0 < time).Count();
        return Start.AddMinutes(look * MinutesEach).ToUnixTimeSeconds();
    }

    private async Task ServeAsync(string data)
    {
        string configuration = Path.Combine(_folder, "prometheus.yml");
        await File.WriteAllTextAsync(configuration, "{}");
        int port;
        using (var free = new TcpListener(IPAddress.Loopback, 0))
        {
            free.Start();
            port = ((IPEndPoint)free.LocalEndpoint).Port;
        }

        _process = Process.Start(
            new ProcessStartInfo(
                Promtool.Find("prometheus"),
                [
                    $"--config.file={configuration}",
                    $"--storage.tsdb.path={data}",
                    "--storage.tsdb.retention.time=100y",
                    $"--web.listen-address=127.0.0.1:{port}",
                    "--log.level=error",
                ]
            )
        )!;
        _http.BaseAddress = new Uri($"http://127.0.0.1:{port}/");
        var began = Stopwatch.StartNew();
        while (!await IsReadyAsync())
        {
            Assert.False(_process.HasExited, "Prometheus has ended: what it said is on standard error");
            Assert.True(began.Elapsed < Patience, "Prometheus is not ready");
            await Task.Delay(50);
        }
    }

    private async Task<bool> IsReadyAsync()
    {
        try
        {
            using HttpResponseMessage answer = await _http.GetAsync("-/ready");
            return answer.IsSuccessStatusCode;
        }
        catch (HttpRequestException)
        {
            return false;
        }
    }

    private async Task<IReadOnlyList<Series>> AskAsync(string what, string when, string expression)
    {
        string text = await _http.GetStringAsync($"api/v1/{what}?query={Uri.EscapeDataString(expression)}{when}");
        using var answer = JsonDocument.Parse(text);
        return
        [
            .. answer
                .RootElement.GetProperty("data")
                .GetProperty("result")
                .EnumerateArray()
                .Select(s => new Series(
                    s.GetProperty("metric").EnumerateObject().ToDictionary(l => l.Name, l => l.Value.GetString()!),
                    s.TryGetProperty("values", out JsonElement values)
                        ? [.. values.EnumerateArray().Select(Point)]
                        : [Point(s.GetProperty("value"))]
                )),
        ];

        static (double, double) Point(JsonElement pair) =>
            (
                pair[0].GetDouble(),
                pair[1].GetString() switch
                {
                    "NaN" => double.NaN,
                    "+Inf" => double.PositiveInfinity,
                    "-Inf" => double.NegativeInfinity,
                    var number => double.Parse(number!, CultureInfo.InvariantCulture),
                }
            );
    }
}
