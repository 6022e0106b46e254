using System.Diagnostics.Metrics;
using System.Net;
using System.Text;
using System.Text.Json;
using Microsoft.Extensions.Logging;
using PciOperator.Testing;
using Prometheus;

namespace PciOperator.Kubernetes.Tests.Unit;

public sealed class MetricsTests
{
    private readonly CollectorRegistry _metrics = Metrics.NewCustomRegistry();

    internal static string Text(CollectorRegistry metrics)
    {
        using var text = new MemoryStream();
        metrics.CollectAndExportAsTextAsync(text).GetAwaiter().GetResult();
        return Encoding.UTF8.GetString(text.ToArray());
    }

    [Fact]
    public void Seconds_are_counted_from_a_millisecond_to_a_minute()
    {
        Metrics
            .WithCustomRegistry(_metrics)
            .CreateHistogram("h_seconds", "Durations.", ["l"], HistogramBuckets.Seconds)
            .WithLabels("x")
            .Observe(0.01);
        IEnumerable<string> bounds = Text(_metrics).Split('\n').Where(l => l.StartsWith("h_seconds_bucket", StringComparison.Ordinal));
        string[] expected = ["0.001", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "30", "60", "+Inf"];
        Assert.Equal(expected.Select((b, i) => $"h_seconds_bucket{{l=\"x\",le=\"{b}\"}} {(i < 2 ? 0 : 1)}"), bounds);
    }

    [Fact]
    public async Task Dot_nets_own_meters_are_shown_and_no_others()
    {
        using var ours = new Meter("pcioperator.test");
        using IDisposable listening = DotNetMeters.Listen(_metrics);
        ours.CreateCounter<int>("not_shown").Add(1);
        await Task.Run(() => GC.Collect(0));
        string text = Text(_metrics);
        Assert.Contains("\nsystem_runtime_dotnet_gc_collections{", text, StringComparison.Ordinal);
        Assert.DoesNotContain("not_shown", text, StringComparison.Ordinal);
    }

    [Fact]
    public void The_process_tells_of_itself()
    {
        ProcessMetrics.AddTo(_metrics);
        var values = Text(_metrics)
            .Split('\n')
            .Where(l => l.Length > 0 && l[0] != '#')
            .ToDictionary(l => l.Split(' ')[0], l => double.Parse(l.Split(' ')[1]));
        Assert.InRange(values["process_resident_memory_bytes"], 1e6, 1e11);
        Assert.InRange(values["process_open_fds"], 3, 1e6);
        Assert.True(values["process_cpu_seconds_total"] > 0);
        Assert.InRange(
            values["process_start_time_seconds"],
            DateTimeOffset.UtcNow.AddDays(-1).ToUnixTimeSeconds(),
            DateTimeOffset.UtcNow.ToUnixTimeSeconds() + 1
        );
    }

    [Fact]
    public async Task The_health_server_answers_with_reasons()
    {
        Metrics.WithCustomRegistry(_metrics).CreateCounter("x_total", "X.").Inc();
        string? reason = "the watch has not synced";
        await using var server = new HealthServer(new HealthServerOptions { Address = IPAddress.Loopback, Port = 0 }, _metrics);
        server.AddLivenessCheck("ping", () => null);
        server.AddReadinessCheck("cache", () => reason);
        server.AddReadinessCheck("throws", () => reason is null ? null : throw new InvalidOperationException("boom"));
        await server.StartAsync();
        using var http = new HttpClient { BaseAddress = new Uri($"http://127.0.0.1:{server.Port}") };

        Assert.Equal("ok", await http.GetStringAsync(new Uri("/healthz", UriKind.Relative)));
        using (HttpResponseMessage notReady = await http.GetAsync(new Uri("/readyz", UriKind.Relative)))
        {
            Assert.Equal(HttpStatusCode.ServiceUnavailable, notReady.StatusCode);
            Assert.Equal(
                "[-]cache failed: the watch has not synced\n[-]throws failed: InvalidOperationException: boom\n",
                await notReady.Content.ReadAsStringAsync()
            );
        }

        reason = null;
        Assert.Equal("[+]cache ok\n[+]throws ok\n", await http.GetStringAsync(new Uri("/readyz?verbose", UriKind.Relative)));
        using HttpResponseMessage metrics = await http.GetAsync(new Uri("/metrics", UriKind.Relative));
        Assert.Equal("text/plain; version=0.0.4; charset=utf-8", metrics.Content.Headers.ContentType!.ToString());
        Assert.Contains("x_total 1\n", await metrics.Content.ReadAsStringAsync(), StringComparison.Ordinal);
        using HttpResponseMessage none = await http.GetAsync(new Uri("/other", UriKind.Relative));
        Assert.Equal(HttpStatusCode.NotFound, none.StatusCode);
        using HttpResponseMessage post = await http.PostAsync(new Uri("/metrics", UriKind.Relative), null);
        Assert.Equal(HttpStatusCode.MethodNotAllowed, post.StatusCode);
    }

    [Fact]
    public async Task A_health_port_that_is_taken_is_served_as_soon_as_it_is_free()
    {
        var time = new FakeTimeProvider();
        var owner = new HealthServer(new HealthServerOptions { Address = IPAddress.Loopback, Port = 0 }, _metrics);
        await owner.StartAsync();
        int port = owner.Port;
        await using var server = new HealthServer(
            new HealthServerOptions { Address = IPAddress.Loopback, Port = port },
            _metrics,
            time: time
        );
        await server.StartAsync();
        Assert.Equal(0, server.Port);

        await owner.DisposeAsync();
        while (server.Port == 0)
        {
            await time.WaitForTimersAsync(delays => delays.Count > 0 || server.Port != 0);
            time.Advance(TimeSpan.FromSeconds(2));
        }

        using var http = new HttpClient();
        Assert.Equal("ok", await http.GetStringAsync(new Uri($"http://127.0.0.1:{port}/healthz")));
    }

    [Fact]
    public void Log_lines_are_json_objects()
    {
        using var output = new MemoryStream();
        using (ILoggerFactory factory = KubernetesLogging.Create(output, LogLevel.Information, LogFormat.Json, new FakeTimeProvider()))
        {
            ILogger logger = factory.CreateLogger("Agent");
            logger.LogDebug("not this");
            logger.LogWarning(
                new IOException("disk\nfull"),
                "Device {Address} of claim {Claim} failed {Count} times",
                "0000:65:00.0",
                "default/\"x\"",
                3
            );
            logger.LogInformation("done");
        }

        string[] lines = Encoding.UTF8.GetString(output.ToArray()).Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(2, lines.Length);
        using var first = JsonDocument.Parse(lines[0]);
        JsonElement root = first.RootElement;
        Assert.Equal("2026-01-01T00:00:00.000Z", root.GetProperty("ts").GetString());
        Assert.Equal(("warn", "Agent"), (root.GetProperty("level").GetString(), root.GetProperty("logger").GetString()));
        Assert.Equal("Device 0000:65:00.0 of claim default/\"x\" failed 3 times", root.GetProperty("msg").GetString());
        Assert.Equal(("0000:65:00.0", 3), (root.GetProperty("address").GetString(), root.GetProperty("count").GetInt32()));
        Assert.StartsWith("System.IO.IOException: disk\nfull", root.GetProperty("error").GetString(), StringComparison.Ordinal);

        using var text = new MemoryStream();
        using (ILoggerFactory factory = KubernetesLogging.Create(text, LogLevel.Debug, LogFormat.Text, new FakeTimeProvider()))
            factory.CreateLogger("Agent").LogDebug("Bound {Count}", 2);
        Assert.Equal("00:00:00.000 debug Agent: Bound 2\n", Encoding.UTF8.GetString(text.ToArray()));
    }
}
