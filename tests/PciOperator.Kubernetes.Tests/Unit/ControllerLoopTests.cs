using System.Threading.Channels;
using k8s.Models;
using PciOperator.Testing;
using Prometheus;
using static PciOperator.Kubernetes.Tests.Unit.ScriptedServer;

namespace PciOperator.Kubernetes.Tests.Unit;

#pragma warning disable CA1001 // IAsyncLifetime disposes of them.
public sealed class ControllerLoopTests : IAsyncLifetime
#pragma warning restore CA1001
{
    private readonly ScriptedServer _server = new();
    private readonly FakeTimeProvider _time = new();
    private readonly CollectorRegistry _metrics = Metrics.NewCustomRegistry();
    private readonly ScriptedController _controller = new();
    private readonly CancellationTokenSource _stop = new();
    private WatchCache<V1ConfigMap> _cache = null!;
    private ControllerLoop<V1ConfigMap> _loop = null!;
    private Task _running = Task.CompletedTask;

    public ValueTask InitializeAsync() => ValueTask.CompletedTask;

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await _running.WaitAsync(TimeSpan.FromSeconds(30));
        _loop.Dispose();
        await _cache.DisposeAsync();
        _stop.Dispose();
    }

    private async Task<ScriptedWatch> StartAsync(TimeSpan? resync = null, params V1ConfigMap[] items)
    {
        _cache = new WatchCache<V1ConfigMap>(_server, "ns", time: _time, random: new Random(1));
        _loop = new ControllerLoop<V1ConfigMap>("maps", _cache, _controller, metrics: _metrics, time: _time, resync: resync);
        _server.NextList(10, items);
        _running = Task.WhenAll(_cache.RunAsync(_stop.Token), _loop.RunAsync(_stop.Token));
        return await _server.WatchOpenedAsync();
    }

    [Fact]
    public async Task Every_object_is_reconciled_and_changes_again_with_the_newest_state()
    {
        ScriptedWatch watch = await StartAsync(null, Map("a", 1), Map("b", 2));
        Assert.Equal("reconcile a@1", await _controller.NextAsync());
        Assert.Equal("reconcile b@2", await _controller.NextAsync());
        watch.Send(WatchEventType.Modified, Map("a", 11));
        Assert.Equal("reconcile a@11", await _controller.NextAsync());
        _loop.Enqueue(new EntityKey("ns", "b"));
        Assert.Equal("reconcile b@2", await _controller.NextAsync());
        _loop.Enqueue(new EntityKey("ns", "none"));
        _loop.EnqueueAfter(new EntityKey("ns", "b"), TimeSpan.FromSeconds(5));
        _time.Advance(TimeSpan.FromSeconds(5));
        Assert.Equal("reconcile b@2", await _controller.NextAsync());
    }

    [Fact]
    public async Task A_deletion_is_told_with_the_last_state_before_the_successor()
    {
        ScriptedWatch watch = await StartAsync(null, Map("a", 1, "uid-1"));
        Assert.Equal("reconcile a@1", await _controller.NextAsync());
        watch.Send(WatchEventType.Modified, Map("a", 11, "uid-2"));
        Assert.Equal("deleted a@1", await _controller.NextAsync());
        Assert.Equal("reconcile a@11", await _controller.NextAsync());
        _controller.Answer(new IOException("not now"));
        watch.Send(WatchEventType.Deleted, Map("a", 12, "uid-2"));
        Assert.Equal("deleted a@11", await _controller.NextAsync());
        await _time.WaitForTimerAsync(TimeSpan.FromMilliseconds(5));
        _time.Advance(TimeSpan.FromMilliseconds(5));
        Assert.Equal("deleted a@11", await _controller.NextAsync());
    }

    [Fact]
    public async Task Errors_come_again_with_backoff_and_conflicts_are_none()
    {
        _controller.Answer(new IOException("broken"));
        _controller.Answer(FakeClient.Error(409, "Conflict"));
        _controller.Answer(ReconciliationResult.Retry);
        _controller.Answer(ReconciliationResult.After(TimeSpan.FromMinutes(1)));
        await StartAsync(null, Map("a", 1));
        foreach (
            TimeSpan delay in (TimeSpan[])
                [TimeSpan.FromMilliseconds(5), TimeSpan.FromMilliseconds(10), TimeSpan.FromMilliseconds(20), TimeSpan.FromMinutes(1)]
        )
        {
            Assert.Equal("reconcile a@1", await _controller.NextAsync());
            await _time.WaitForTimerAsync(delay);
            _time.Advance(delay);
        }

        Assert.Equal("reconcile a@1", await _controller.NextAsync());
        await _stop.CancelAsync();
        await _running.WaitAsync(TimeSpan.FromSeconds(30));
        string text = MetricsTests.Text(_metrics);
        foreach (
            string line in (string[])
                [
                    "pcioperator_reconcile_total{controller=\"maps\",result=\"error\"} 1",
                    "pcioperator_reconcile_total{controller=\"maps\",result=\"conflict\"} 1",
                    "pcioperator_reconcile_total{controller=\"maps\",result=\"requeue\"} 1",
                    "pcioperator_reconcile_total{controller=\"maps\",result=\"requeue_after\"} 1",
                    "pcioperator_reconcile_errors_total{controller=\"maps\"} 1",
                    "pcioperator_active_workers{controller=\"maps\"} 0",
                    "pcioperator_reconcile_duration_seconds_count{controller=\"maps\"} 5",
                ]
        )
        {
            Assert.Contains(line + "\n", text, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task A_resync_looks_at_everything_again()
    {
        await StartAsync(TimeSpan.FromMinutes(10), Map("a", 1), Map("b", 2));
        await _controller.NextAsync();
        await _controller.NextAsync();
        await _time.WaitForTimerAsync(TimeSpan.FromMinutes(10));
        _time.Advance(TimeSpan.FromMinutes(10));
        Assert.Equal(["reconcile a@1", "reconcile b@2"], new[] { await _controller.NextAsync(), await _controller.NextAsync() }.Order());
    }

    private sealed class ScriptedController : IEntityController<V1ConfigMap>
    {
        private readonly Channel<string> _calls = Channel.CreateUnbounded<string>();
        private readonly Channel<object> _answers = Channel.CreateUnbounded<object>();

        public void Answer(object answer) => _answers.Writer.TryWrite(answer);

        public Task<string> NextAsync() => _calls.Reader.ReadAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(30));

        public Task<ReconciliationResult> ReconcileAsync(V1ConfigMap entity, CancellationToken ct) =>
            Task.FromResult(Called("reconcile", entity));

        public Task DeletedAsync(V1ConfigMap entity, CancellationToken ct)
        {
            Called("deleted", entity);
            return Task.CompletedTask;
        }

        private ReconciliationResult Called(string what, V1ConfigMap entity)
        {
            _calls.Writer.TryWrite($"{what} {entity.Metadata.Name}@{entity.Metadata.ResourceVersion}");
            if (!_answers.Reader.TryRead(out object? answer))
                return ReconciliationResult.Done;
            return answer is Exception error ? throw error : (ReconciliationResult)answer;
        }
    }
}
