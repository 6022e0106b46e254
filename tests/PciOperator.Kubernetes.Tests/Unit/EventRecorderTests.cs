using System.Text;
using System.Text.Json;
using System.Threading.Channels;
using k8s.Models;
using PciOperator.Testing;
using Prometheus;

namespace PciOperator.Kubernetes.Tests.Unit;

public sealed class EventRecorderTests
{
    private readonly FakeTimeProvider _time = new();
    private readonly EventServer _server = new();
    private readonly CollectorRegistry _metrics = Metrics.NewCustomRegistry();

    private static V1Pod Pod(string name = "p") =>
        new()
        {
            Metadata = new V1ObjectMeta
            {
                Name = name,
                NamespaceProperty = "ns",
                Uid = $"uid-{name}",
                ResourceVersion = "7",
            },
        };

    private EventRecorder Recorder() => new(_server, "pcioperator.io/test", "test-0", _time, metrics: _metrics);

    [Fact]
    public async Task A_first_event_has_no_series_and_says_everything()
    {
        await using (EventRecorder recorder = Recorder())
            recorder.Warning(Pod(), "NoDevices", "None fits.", "Schedule");
        Eventsv1Event made = Assert.IsType<Eventsv1Event>(await _server.NextAsync());
        Assert.Equal(
            ("ns", "Warning", "NoDevices", "None fits.", "Schedule"),
            (made.Metadata.NamespaceProperty, made.Type, made.Reason, made.Note, made.Action)
        );
        Assert.Equal(("pcioperator.io/test", "test-0"), (made.ReportingController, made.ReportingInstance));
        Assert.Equal(
            ("v1", "Pod", "ns", "p", "uid-p", "7"),
            (
                made.Regarding!.ApiVersion,
                made.Regarding.Kind,
                made.Regarding.NamespaceProperty,
                made.Regarding.Name,
                made.Regarding.Uid,
                made.Regarding.ResourceVersion
            )
        );
        Assert.Equal(_time.GetUtcNow().UtcDateTime, made.EventTime);
        Assert.Null(made.Series);
        Assert.StartsWith("p.", made.Metadata.Name, StringComparison.Ordinal);
        Assert.Contains("pcioperator_events_written_total 1\n", MetricsTests.Text(_metrics), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Repeats_become_a_series_that_is_written_now_and_then()
    {
        await using EventRecorder recorder = Recorder();
        recorder.Normal(Pod(), "R", "n");
        Eventsv1Event made = Assert.IsType<Eventsv1Event>(await _server.NextAsync());
        recorder.Normal(Pod(), "R", "n");
        Assert.Equal((made.Metadata.Name, 2), await NextSeriesAsync());
        for (int i = 0; i < 20; i++)
            recorder.Normal(Pod(), "R", "n");
        recorder.Normal(Pod("other"), "R", "n");
        recorder.Normal(Pod(), "R", "another note");
        Assert.Equal("other", Assert.IsType<Eventsv1Event>(await _server.NextAsync()).Regarding!.Name);
        Assert.Equal("another note", Assert.IsType<Eventsv1Event>(await _server.NextAsync()).Note);
        // Nothing more is written until its time has come.
        Assert.True(_server.IsIdle);
        await _time.WaitForTimerAsync(TimeSpan.FromSeconds(10));
        _time.Advance(TimeSpan.FromSeconds(10));
        Assert.Equal((made.Metadata.Name, 22), await NextSeriesAsync());
    }

    [Fact]
    public async Task What_waits_is_written_at_the_end()
    {
        EventRecorder recorder = Recorder();
        for (int i = 0; i < 9; i++)
            recorder.Normal(Pod(), "R", "n");
        await recorder.DisposeAsync();
        await _server.NextAsync();
        Assert.Equal(2, (await NextSeriesAsync()).Count);
        Assert.Equal(9, (await NextSeriesAsync()).Count);
        Assert.True(_server.IsIdle);
        // After the end, recording is no error.
        recorder.Normal(Pod(), "R", "n");
    }

    [Fact]
    public async Task A_series_that_was_quiet_for_long_is_over()
    {
        await using EventRecorder recorder = Recorder();
        recorder.Normal(Pod(), "R", "n");
        Eventsv1Event first = Assert.IsType<Eventsv1Event>(await _server.NextAsync());
        _time.Advance(TimeSpan.FromMinutes(6));
        recorder.Normal(Pod(), "R", "n");
        Eventsv1Event second = Assert.IsType<Eventsv1Event>(await _server.NextAsync());
        Assert.NotEqual(first.Metadata.Name, second.Metadata.Name);
    }

    [Fact]
    public async Task An_event_that_expired_is_made_again_with_its_count()
    {
        await using EventRecorder recorder = Recorder();
        recorder.Normal(Pod(), "R", "n");
        await _server.NextAsync();
        _server.Answer(FakeClient.Error(404, "NotFound"));
        recorder.Normal(Pod(), "R", "n");
        Assert.Equal(2, (await NextSeriesAsync()).Count);
        Eventsv1Event again = Assert.IsType<Eventsv1Event>(await _server.NextAsync());
        Assert.Equal(2, again.Series!.Count);
    }

    [Fact]
    public async Task Trouble_is_tried_again_and_a_refusal_is_left_at_that()
    {
        await using EventRecorder recorder = Recorder();
        _server.Answer(new HttpRequestException("refused"));
        _server.Answer(FakeClient.Error(500, "InternalError"));
        recorder.Normal(Pod(), "R", "n");
        await _server.NextAsync();
        await _time.WaitForTimerAsync(TimeSpan.FromSeconds(1));
        _time.Advance(TimeSpan.FromSeconds(1));
        await _server.NextAsync();
        await _time.WaitForTimerAsync(TimeSpan.FromSeconds(2));
        _time.Advance(TimeSpan.FromSeconds(2));
        await _server.NextAsync();

        _server.Answer(FakeClient.Error(403, "Forbidden"));
        recorder.Normal(Pod("q"), "R", "n");
        recorder.Normal(Pod("r"), "R", "n");
        Assert.Equal("q", Assert.IsType<Eventsv1Event>(await _server.NextAsync()).Regarding!.Name);
        Assert.Equal("r", Assert.IsType<Eventsv1Event>(await _server.NextAsync()).Regarding!.Name);
        Assert.Contains("pcioperator_events_dropped_total 1\n", MetricsTests.Text(_metrics), StringComparison.Ordinal);
    }

    [Fact]
    public async Task When_the_server_hangs_recording_goes_on_without_blocking_and_the_surplus_is_counted()
    {
        EventRecorder recorder = Recorder();
        _server.Hang();
        recorder.Normal(Pod("first"), "R", "n");
        await _server.NextAsync();
        for (int i = 0; i < 1500; i++)
            recorder.Normal(Pod($"p{i}"), "R", "n");
        Assert.Contains("pcioperator_events_dropped_total 500\n", MetricsTests.Text(_metrics), StringComparison.Ordinal);
        Task disposing = recorder.DisposeAsync().AsTask();
        await _time.WaitForTimerAsync(TimeSpan.FromSeconds(5));
        _time.Advance(TimeSpan.FromSeconds(5));
        await disposing.WaitAsync(TimeSpan.FromSeconds(30));
    }

    [Fact]
    public async Task Long_texts_are_cut_to_what_the_server_takes()
    {
        await using (EventRecorder recorder = Recorder())
        {
            recorder.Normal(
                Pod(new string('n', 250)),
                new string('R', 200),
                string.Concat(Enumerable.Repeat("ü😀", 400)),
                new string('A', 200)
            );
        }

        Eventsv1Event made = Assert.IsType<Eventsv1Event>(await _server.NextAsync());
        Assert.InRange(Encoding.UTF8.GetByteCount(made.Note!), 1000, 1024);
        Assert.EndsWith("…", made.Note, StringComparison.Ordinal);
        Assert.DoesNotContain('\ufffd', Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(made.Note!)));
        Assert.InRange(made.Reason!.Length, 100, 128);
        Assert.InRange(made.Action!.Length, 100, 128);
        Assert.InRange(made.Metadata.Name!.Length, 1, 253);
    }

    private async Task<(string? Name, int Count)> NextSeriesAsync()
    {
        (string? name, string? json) = Assert.IsType<(string, string)>(await _server.NextAsync());
        using var patch = JsonDocument.Parse(json);
        JsonElement series = patch.RootElement.GetProperty("series");
        Assert.True(series.GetProperty("lastObservedTime").GetDateTimeOffset() <= _time.GetUtcNow());
        return (name, series.GetProperty("count").GetInt32());
    }

    private sealed class EventServer : FakeClient
    {
        private readonly Channel<object> _calls = Channel.CreateUnbounded<object>();
        private readonly Channel<Exception> _answers = Channel.CreateUnbounded<Exception>();
        private bool _hangs;

        public bool IsIdle => !_calls.Reader.TryPeek(out _);

        public void Answer(Exception error) => _answers.Writer.TryWrite(error);

        public void Hang() => _hangs = true;

        public Task<object> NextAsync() => _calls.Reader.ReadAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(30));

        public override Task<T> CreateAsync<T>(T obj, CancellationToken ct = default) => CallAsync(obj, obj, ct);

        public override Task<T> PatchAsync<T>(
            string name,
            string? ns,
            EntityPatch patch,
            string? subresource = null,
            CancellationToken ct = default
        ) => CallAsync<T>((name, Encoding.UTF8.GetString(patch.Body.Span)), null!, ct);

        private async Task<T> CallAsync<T>(object call, T answer, CancellationToken ct)
        {
            _calls.Writer.TryWrite(call);
            if (_hangs)
                await Task.Delay(Timeout.Infinite, ct);
            return _answers.Reader.TryRead(out Exception? error) ? throw error : answer;
        }
    }
}
