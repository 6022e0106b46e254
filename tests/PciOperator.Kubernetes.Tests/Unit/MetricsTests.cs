using System.Buffers;
using System.Net;
using System.Text;
using System.Text.Json;
using Microsoft.Extensions.Logging;
using PciOperator.Testing;

namespace PciOperator.Kubernetes.Tests.Unit;

public sealed class MetricsTests
{
    private readonly MetricsRegistry _metrics = new();

    internal static string Text(MetricsRegistry metrics)
    {
        var buffer = new ArrayBufferWriter<byte>();
        metrics.WriteTo(buffer);
        return Encoding.UTF8.GetString(buffer.WrittenSpan);
    }

    [Fact]
    public void Text_is_sorted_typed_and_escaped()
    {
        _metrics.Gauge("b_bytes", "Bytes,\nby \\ kind.", "kind").Set(1.5, "a\"b\\c\nd");
        var counter = _metrics.Counter("a_total", "Things.", "code", "method");
        counter.Inc("200", "GET");
        counter.Inc("200", "GET");
        counter.Add(0.5, "404", "GET");
        _metrics.Counter("empty_total", "Without labels it is there from the start.");
        _metrics.Counter("labelled_total", "With labels it is not.", "l");
        Assert.Equal(
            """
            # HELP a_total Things.
            # TYPE a_total counter
            a_total{code="200",method="GET"} 2
            a_total{code="404",method="GET"} 0.5
            # HELP b_bytes Bytes,\nby \\ kind.
            # TYPE b_bytes gauge
            b_bytes{kind="a\"b\\c\nd"} 1.5
            # HELP empty_total Without labels it is there from the start.
            # TYPE empty_total counter
            empty_total 0

            """,
            Text(_metrics));
    }

    [Fact]
    public void Buckets_are_cumulative_and_bounds_belong_to_their_bucket()
    {
        var histogram = _metrics.Histogram("h_seconds", "Durations.", [0.1, 1, 2.5]);
        foreach (var value in (double[])[0.05, 0.1, 0.5, 2.5, 100])
            histogram.Observe(value);
        Assert.Equal(
            """
            # HELP h_seconds Durations.
            # TYPE h_seconds histogram
            h_seconds_bucket{le="0.1"} 2
            h_seconds_bucket{le="1"} 3
            h_seconds_bucket{le="2.5"} 4
            h_seconds_bucket{le="+Inf"} 5
            h_seconds_sum 103.15
            h_seconds_count 5

            """,
            Text(_metrics));
        _metrics.Histogram("l_seconds", "With a label.", [1], "l").Observe(7, "x");
        Assert.Contains("l_seconds_bucket{l=\"x\",le=\"+Inf\"} 1\n", Text(_metrics), StringComparison.Ordinal);
    }

    [Fact]
    public void Special_numbers_are_written_as_prometheus_reads_them()
    {
        var gauge = _metrics.Gauge("g", "G.", "n");
        gauge.Set(double.PositiveInfinity, "a");
        gauge.Set(double.NegativeInfinity, "b");
        gauge.Set(double.NaN, "c");
        gauge.Set(1e21, "d");
        var text = Text(_metrics);
        foreach (var line in (string[])["g{n=\"a\"} +Inf", "g{n=\"b\"} -Inf", "g{n=\"c\"} NaN", "g{n=\"d\"} 1E+21"])
            Assert.Contains(line + "\n", text, StringComparison.Ordinal);
        gauge.Remove("a");
        Assert.DoesNotContain("+Inf", Text(_metrics), StringComparison.Ordinal);
    }

    [Fact]
    public void Names_are_checked_and_the_same_definition_is_the_same_metric()
    {
        Assert.Same(_metrics.Counter("x_total", "X.", "l"), _metrics.Counter("x_total", "X.", "l"));
        Assert.Throws<ArgumentException>(() => _metrics.Counter("x_total", "X.", "other"));
        Assert.Throws<ArgumentException>(() => _metrics.Gauge("x_total", "X.", "l"));
        Assert.Throws<ArgumentException>(() => _metrics.Counter("x", "No _total."));
        Assert.Throws<ArgumentException>(() => _metrics.Gauge("1x", "Digit."));
        Assert.Throws<ArgumentException>(() => _metrics.Gauge("x-y", "Dash."));
        Assert.Throws<ArgumentException>(() => _metrics.Gauge("x", "Label.", "le"));
        Assert.Throws<ArgumentException>(() => _metrics.Gauge("x", "Label.", "__x"));
        Assert.Throws<ArgumentException>(() => _metrics.Gauge("y", "Label.", "l").Set(1));
        Assert.Throws<ArgumentException>(() => _metrics.Histogram("z", "Buckets.", [2, 1]));
        Assert.Throws<ArgumentOutOfRangeException>(() => _metrics.Counter("x_total", "X.", "l").Add(-1, "v"));
    }

    [Fact]
    public void Counting_from_many_threads_loses_nothing()
    {
        var counter = _metrics.Counter("n_total", "N.", "l");
        var histogram = _metrics.Histogram("d_seconds", "D.", [1]);
        Parallel.For(0, 10_000, i =>
        {
            counter.Inc((i % 3).ToString());
            histogram.Observe(i % 2);
        });
        Assert.Equal(10_000, Enumerable.Range(0, 3).Sum(l => counter.Value(l.ToString())));
        Assert.Contains("d_seconds_count 10000\n", Text(_metrics), StringComparison.Ordinal);
    }

    [Fact]
    public void The_process_tells_of_itself()
    {
        _metrics.AddProcessMetrics();
        var values = Text(_metrics).Split('\n').Where(l => l.Length > 0 && l[0] != '#').ToDictionary(l => l.Split(' ')[0], l => double.Parse(l.Split(' ')[1]));
        Assert.InRange(values["process_resident_memory_bytes"], 1e6, 1e11);
        Assert.InRange(values["process_open_fds"], 3, 1e6);
        Assert.True(values["process_cpu_seconds_total"] > 0);
        Assert.InRange(values["process_start_time_seconds"], DateTimeOffset.UtcNow.AddDays(-1).ToUnixTimeSeconds(), DateTimeOffset.UtcNow.ToUnixTimeSeconds() + 1);
    }

    [Fact]
    public async Task The_health_server_answers_with_reasons()
    {
        _metrics.Counter("x_total", "X.").Inc();
        string? reason = "the watch has not synced";
        await using var server = new HealthServer(new HealthServerOptions { Address = IPAddress.Loopback, Port = 0 }, _metrics);
        server.AddLivenessCheck("ping", () => null);
        server.AddReadinessCheck("cache", () => reason);
        server.AddReadinessCheck("throws", () => reason is null ? null : throw new InvalidOperationException("boom"));
        await server.StartAsync();
        using var http = new HttpClient { BaseAddress = new Uri($"http://127.0.0.1:{server.Port}") };

        Assert.Equal("ok", await http.GetStringAsync(new Uri("/healthz", UriKind.Relative)));
        using (var notReady = await http.GetAsync(new Uri("/readyz", UriKind.Relative)))
        {
            Assert.Equal(HttpStatusCode.ServiceUnavailable, notReady.StatusCode);
            Assert.Equal("[-]cache failed: the watch has not synced\n[-]throws failed: InvalidOperationException: boom\n", await notReady.Content.ReadAsStringAsync());
        }

        reason = null;
        Assert.Equal("[+]cache ok\n[+]throws ok\n", await http.GetStringAsync(new Uri("/readyz?verbose", UriKind.Relative)));
        using var metrics = await http.GetAsync(new Uri("/metrics", UriKind.Relative));
        Assert.Equal("text/plain; version=0.0.4; charset=utf-8", metrics.Content.Headers.ContentType!.ToString());
        Assert.Contains("x_total 1\n", await metrics.Content.ReadAsStringAsync(), StringComparison.Ordinal);
        using var none = await http.GetAsync(new Uri("/other", UriKind.Relative));
        Assert.Equal(HttpStatusCode.NotFound, none.StatusCode);
        using var post = await http.PostAsync(new Uri("/metrics", UriKind.Relative), null);
        Assert.Equal(HttpStatusCode.MethodNotAllowed, post.StatusCode);
    }

    [Fact]
    public async Task A_health_port_that_is_taken_is_served_as_soon_as_it_is_free()
    {
        var time = new FakeTimeProvider();
        var owner = new HealthServer(new HealthServerOptions { Address = IPAddress.Loopback, Port = 0 }, _metrics);
        await owner.StartAsync();
        var port = owner.Port;
        await using var server = new HealthServer(new HealthServerOptions { Address = IPAddress.Loopback, Port = port }, _metrics, time: time);
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
        using (var factory = KubernetesLogging.Create(output, LogLevel.Information, LogFormat.Json, new FakeTimeProvider()))
        {
            var logger = factory.CreateLogger("Agent");
            logger.LogDebug("not this");
            logger.LogWarning(new IOException("disk\nfull"), "Device {Address} of claim {Claim} failed {Count} times", "0000:65:00.0", "default/\"x\"", 3);
            logger.LogInformation("done");
        }

        var lines = Encoding.UTF8.GetString(output.ToArray()).Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(2, lines.Length);
        using var first = JsonDocument.Parse(lines[0]);
        var root = first.RootElement;
        Assert.Equal("2026-01-01T00:00:00.000Z", root.GetProperty("ts").GetString());
        Assert.Equal(("warn", "Agent"), (root.GetProperty("level").GetString(), root.GetProperty("logger").GetString()));
        Assert.Equal("Device 0000:65:00.0 of claim default/\"x\" failed 3 times", root.GetProperty("msg").GetString());
        Assert.Equal(("0000:65:00.0", 3), (root.GetProperty("address").GetString(), root.GetProperty("count").GetInt32()));
        Assert.StartsWith("System.IO.IOException: disk\nfull", root.GetProperty("error").GetString(), StringComparison.Ordinal);

        using var text = new MemoryStream();
        using (var factory = KubernetesLogging.Create(text, LogLevel.Debug, LogFormat.Text, new FakeTimeProvider()))
            factory.CreateLogger("Agent").LogDebug("Bound {Count}", 2);
        Assert.Equal("00:00:00.000 debug Agent: Bound 2\n", Encoding.UTF8.GetString(text.ToArray()));
    }
}
