using PciOperator.Testing;
using Prometheus;

namespace PciOperator.Kubernetes.Tests.Unit;

public sealed class WorkQueueTests : IDisposable
{
    private readonly FakeTimeProvider _time = new();
    private readonly CollectorRegistry _metrics = Metrics.NewCustomRegistry();
    private readonly WorkQueue<string> _queue;

    public WorkQueueTests() => _queue = new WorkQueue<string>("test", _time, _metrics);

    public void Dispose() => _queue.Dispose();

    private async Task<string> GetAsync() => await _queue.GetAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(30));

    [Fact]
    public async Task Namespaces_take_turns_so_that_many_keys_of_one_do_not_delay_another()
    {
        using var queue = new WorkQueue<EntityKey>("fair", _time, turnOf: key => key.Namespace ?? "");
        for (int i = 0; i < 1500; i++)
            queue.Add(new EntityKey("busy", $"c{i}"));
        queue.Add(new EntityKey("quiet", "only"));
        queue.Add(new EntityKey(null, "cluster"));
        var taken = new List<string>();
        for (int i = 0; i < 5; i++)
        {
            EntityKey key = await queue.GetAsync();
            taken.Add(key.ToString());
            queue.Done(key);
        }

        Assert.Equal(["busy/c0", "quiet/only", "cluster", "busy/c1", "busy/c2"], taken);
        Assert.Equal(1497, queue.Count);
    }

    [Fact]
    public async Task A_queue_stands_still_when_what_is_ready_is_not_taken_and_what_is_taken_not_finished()
    {
        _time.Advance(TimeSpan.FromHours(1));
        Assert.Equal(TimeSpan.Zero, _queue.StandsStillFor);
        _queue.Add("a");
        Assert.Equal(TimeSpan.Zero, _queue.StandsStillFor);
        _time.Advance(TimeSpan.FromMinutes(3));
        Assert.Equal(TimeSpan.FromMinutes(3), _queue.StandsStillFor);
        string key = await _queue.GetAsync();
        Assert.Equal(TimeSpan.Zero, _queue.StandsStillFor);
        _time.Advance(TimeSpan.FromMinutes(2));
        Assert.Equal(TimeSpan.FromMinutes(2), _queue.StandsStillFor);
        _queue.Done(key);
        Assert.Equal(TimeSpan.Zero, _queue.StandsStillFor);
    }

    [Fact]
    public async Task A_key_is_in_it_once()
    {
        _queue.Add("a");
        _queue.Add("b");
        _queue.Add("a");
        Assert.Equal(2, _queue.Count);
        Assert.Equal("a", await GetAsync());
        Assert.Equal("b", await GetAsync());
        Assert.Equal(0, _queue.Count);
    }

    [Fact]
    public async Task A_key_that_is_worked_on_waits_for_its_worker()
    {
        _queue.Add("a");
        Assert.Equal("a", await GetAsync());
        _queue.Add("a");
        _queue.Add("a");
        Assert.Equal(0, _queue.Count);
        Task<string> next = _queue.GetAsync().AsTask();
        Assert.False(next.IsCompleted);
        _queue.Done("a");
        Assert.Equal("a", await next.WaitAsync(TimeSpan.FromSeconds(30)));
        _queue.Done("a");
        Assert.Equal(0, _queue.Count);
        Assert.Throws<InvalidOperationException>(() => _queue.Done("a"));
    }

    [Fact]
    public void Delays_hold_and_the_earliest_counts()
    {
        _queue.AddAfter("a", TimeSpan.FromSeconds(10));
        _queue.AddAfter("b", TimeSpan.FromSeconds(5));
        _queue.AddAfter("a", TimeSpan.FromSeconds(2));
        _queue.AddAfter("b", TimeSpan.FromSeconds(60));
        _time.Advance(TimeSpan.FromSeconds(2) - TimeSpan.FromMilliseconds(1));
        Assert.Equal(0, _queue.Count);
        _time.Advance(TimeSpan.FromMilliseconds(1));
        Assert.Equal(1, _queue.Count);
        _time.Advance(TimeSpan.FromSeconds(3));
        Assert.Equal(2, _queue.Count);
        // The later times of the same keys are void.
        _time.Advance(TimeSpan.FromSeconds(100));
        Assert.Equal(2, _queue.Count);
        _queue.AddAfter("c", TimeSpan.Zero);
        Assert.Equal(3, _queue.Count);
        _queue.AddAfter("d", TimeSpan.MaxValue);
    }

    [Fact]
    public async Task Backoff_doubles_to_its_limit_and_never_drops()
    {
        var expected = TimeSpan.FromMilliseconds(5);
        for (int failure = 1; failure <= 60; failure++)
        {
            _queue.AddRateLimited("a");
            Assert.Equal(failure, _queue.Failures("a"));
            _time.Advance(expected - TimeSpan.FromMilliseconds(1));
            Assert.Equal(0, _queue.Count);
            _time.Advance(TimeSpan.FromMilliseconds(1));
            Assert.Equal("a", await GetAsync());
            _queue.Done("a");
            expected = expected * 2 > TimeSpan.FromSeconds(1000) ? TimeSpan.FromSeconds(1000) : expected * 2;
        }

        Assert.Equal(TimeSpan.FromSeconds(1000), expected);
        _queue.Forget("a");
        _queue.AddRateLimited("a");
        _time.Advance(TimeSpan.FromMilliseconds(5));
        Assert.Equal("a", await GetAsync());
    }

    [Fact]
    public async Task Shutting_down_wakes_who_waits()
    {
        Task<string> waiting = _queue.GetAsync().AsTask();
        _queue.ShutDown();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting);
        _queue.Add("late");
        Assert.Equal(0, _queue.Count);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => _queue.GetAsync().AsTask());
    }

    [Fact]
    public async Task Waiting_can_be_cancelled_without_losing_a_key()
    {
        using var stop = new CancellationTokenSource();
        Task<string> waiting = _queue.GetAsync(stop.Token).AsTask();
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting);
        _queue.Add("a");
        Assert.Equal("a", await GetAsync());
    }

    [Fact]
    public async Task Under_many_workers_no_key_is_lost_or_worked_on_twice_at_a_time()
    {
        using var queue = new WorkQueue<int>("many");
        const int keys = 20,
            addsPerKey = 200;
        int[] inWork = new int[keys];
        int[] seen = new int[keys];
        int[] wanted = new int[keys];
        using var stop = new CancellationTokenSource();
        var workers = Enumerable
            .Range(0, 8)
            .Select(_ =>
                Task.Run(async () =>
                {
                    while (true)
                    {
                        int key;
                        try
                        {
                            key = await queue.GetAsync(stop.Token);
                        }
                        catch (OperationCanceledException)
                        {
                            return;
                        }

                        Assert.Equal(1, Interlocked.Increment(ref inWork[key]));
                        int now = Volatile.Read(ref wanted[key]);
                        await Task.Yield();
                        Volatile.Write(ref seen[key], now);
                        Interlocked.Decrement(ref inWork[key]);
                        queue.Done(key);
                    }
                })
            )
            .ToList();
        Parallel.For(
            0,
            keys * addsPerKey,
            i =>
            {
                Interlocked.Increment(ref wanted[i % keys]);
                queue.Add(i % keys);
            }
        );
        // Each key is worked on at least once after its last Add.
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(30));
        while (!seen.All(s => s == addsPerKey))
        {
            limit.Token.ThrowIfCancellationRequested();
            await Task.Yield();
        }

        await stop.CancelAsync();
        await Task.WhenAll(workers);
    }

    [Fact]
    public async Task Metrics_tell_of_depth_latency_and_work()
    {
        _queue.Add("a");
        _queue.Add("b");
        _time.Advance(TimeSpan.FromSeconds(2));
        await GetAsync();
        _time.Advance(TimeSpan.FromSeconds(3));
        string text = MetricsTests.Text(_metrics);
        Assert.Contains("workqueue_depth{name=\"test\"} 1\n", text, StringComparison.Ordinal);
        Assert.Contains("workqueue_adds_total{name=\"test\"} 2\n", text, StringComparison.Ordinal);
        Assert.Contains("workqueue_queue_duration_seconds_sum{name=\"test\"} 2\n", text, StringComparison.Ordinal);
        Assert.Contains("workqueue_unfinished_work_seconds{name=\"test\"} 3\n", text, StringComparison.Ordinal);
        Assert.Contains("workqueue_longest_running_processor_seconds{name=\"test\"} 3\n", text, StringComparison.Ordinal);
        _queue.Done("a");
        _queue.AddRateLimited("a");
        text = MetricsTests.Text(_metrics);
        Assert.Contains("workqueue_work_duration_seconds_sum{name=\"test\"} 3\n", text, StringComparison.Ordinal);
        Assert.Contains("workqueue_work_duration_seconds_bucket{name=\"test\",le=\"10\"} 1\n", text, StringComparison.Ordinal);
        Assert.Contains("workqueue_retries_total{name=\"test\"} 1\n", text, StringComparison.Ordinal);
    }
}
