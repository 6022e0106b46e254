using Prometheus;
using ITimer = System.Threading.ITimer;

namespace PciOperator.Kubernetes;

/// <summary>
/// Keys to work on. A key is in the queue once however often it is added; one that is added while it is worked on comes
/// again when it is <see cref="Done"/>, and never goes to two workers at a time. Nothing is ever dropped: a key that
/// fails comes again, with growing delays, for as long as it fails.
/// </summary>
public sealed class WorkQueue<TKey> : IDisposable
    where TKey : notnull
{
    private readonly Lock _lock = new();
    private readonly TimeProvider _time;
    private readonly TimeSpan _minBackoff;
    private readonly TimeSpan _maxBackoff;
    private readonly TurnQueue<TKey> _ready;
    private readonly Dictionary<TKey, long> _dirty = [];
    private readonly Dictionary<TKey, long> _processing = [];
    private readonly Dictionary<TKey, int> _failures = [];
    private readonly Dictionary<TKey, long> _waiting = [];
    private readonly PriorityQueue<TKey, long> _timetable = new();
    private readonly ITimer _timer;
    private readonly SemaphoreSlim _signal = new(0);
    private readonly CancellationTokenSource _shutDown = new();
    private readonly WorkQueueMetrics? _metrics;
    private long _movedAt;

    /// <summary>Makes an empty queue.</summary>
    /// <param name="name">What metrics call it.</param>
    /// <param name="time">Clock for delays.</param>
    /// <param name="metrics">Where <c>workqueue_*</c> go.</param>
    /// <param name="minBackoff">Delay after the first failure, doubled with each; default 5 ms as in client-go.</param>
    /// <param name="maxBackoff">The longest delay; default 1,000 s as in client-go.</param>
    /// <param name="turnOf">Whose turn a key waits for: of those that have keys ready each has one worked on after the other, so that one
    /// with very many does not keep the others waiting. Null: first come, first served.</param>
    public WorkQueue(
        string name,
        TimeProvider? time = null,
        CollectorRegistry? metrics = null,
        TimeSpan? minBackoff = null,
        TimeSpan? maxBackoff = null,
        Func<TKey, string>? turnOf = null
    )
    {
        _time = time ?? TimeProvider.System;
        _ready = new TurnQueue<TKey>(turnOf);
        _movedAt = _time.GetTimestamp();
        _minBackoff = minBackoff ?? TimeSpan.FromMilliseconds(5);
        _maxBackoff = maxBackoff ?? TimeSpan.FromSeconds(1000);
        _timer = _time.CreateTimer(_ => MoveDue(), null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        if (metrics is not null)
            _metrics = new WorkQueueMetrics(name, metrics, Unfinished);
    }

    /// <summary>How many keys wait for a worker; those that wait for their time are not among them.</summary>
    public int Count
    {
        get
        {
            lock (_lock)
                return _ready.Count;
        }
    }

    /// <summary>How long keys have been ready or worked on without one being taken or finished; zero when there are none.</summary>
    public TimeSpan StandsStillFor
    {
        get
        {
            lock (_lock)
                return _ready.Count == 0 && _processing.Count == 0 ? TimeSpan.Zero : _time.GetElapsedTime(_movedAt);
        }
    }

    /// <summary>Adds a key to be worked on as soon as possible.</summary>
    public void Add(TKey key)
    {
        lock (_lock)
        {
            if (_shutDown.IsCancellationRequested || !_dirty.TryAdd(key, _time.GetTimestamp()))
                return;
            _metrics?.Added();
            if (!_processing.ContainsKey(key))
                Push(key);
        }
    }

    /// <summary>Adds a key after a while; of several delays for one key the earliest counts.</summary>
    public void AddAfter(TKey key, TimeSpan delay)
    {
        if (delay <= TimeSpan.Zero)
        {
            Add(key);
            return;
        }

        lock (_lock)
        {
            if (_shutDown.IsCancellationRequested)
                return;
            long due = checked(_time.GetTimestamp() + (long)(Math.Min(delay.TotalSeconds, 1e8) * _time.TimestampFrequency));
            if (_waiting.TryGetValue(key, out long earlier) && earlier <= due)
                return;
            _waiting[key] = due;
            _timetable.Enqueue(key, due);
            SetTimer();
        }
    }

    /// <summary>Adds a key after its own backoff, which doubles each time until <see cref="Forget"/>.</summary>
    public void AddRateLimited(TKey key)
    {
        TimeSpan delay;
        lock (_lock)
        {
            int failures = _failures.GetValueOrDefault(key);
            _failures[key] = failures + 1;
            double ticks = _minBackoff.Ticks * Math.Pow(2, failures);
            delay = ticks >= _maxBackoff.Ticks ? _maxBackoff : TimeSpan.FromTicks((long)ticks);
            _metrics?.Retried();
        }

        AddAfter(key, delay);
    }

    /// <summary>The key is well: its next backoff starts anew.</summary>
    public void Forget(TKey key)
    {
        lock (_lock)
            _failures.Remove(key);
    }

    /// <summary>How often a key was added with backoff since it was last forgotten.</summary>
    public int Failures(TKey key)
    {
        lock (_lock)
            return _failures.GetValueOrDefault(key);
    }

    /// <summary>The next key; it must be given back with <see cref="Done"/>.</summary>
    /// <exception cref="OperationCanceledException">Cancelled, or the queue was shut down.</exception>
    public async ValueTask<TKey> GetAsync(CancellationToken ct = default)
    {
        if (!_signal.Wait(0, CancellationToken.None) || _shutDown.IsCancellationRequested)
        {
            using var either = CancellationTokenSource.CreateLinkedTokenSource(ct, _shutDown.Token);
            await _signal.WaitAsync(either.Token);
        }

        lock (_lock)
        {
            TKey key = _ready.Dequeue();
            _dirty.Remove(key, out long since);
            long now = _movedAt = _time.GetTimestamp();
            _processing.Add(key, now);
            _metrics?.Taken(_time.GetElapsedTime(since, now), _ready.Count);
            return key;
        }
    }

    /// <summary>The worker is through with a key; when it was added meanwhile, it is ready again.</summary>
    public void Done(TKey key)
    {
        lock (_lock)
        {
            if (!_processing.Remove(key, out long since))
                throw new InvalidOperationException($"{key} is not being worked on.");
            _movedAt = _time.GetTimestamp();
            _metrics?.Finished(_time.GetElapsedTime(since));
            if (_dirty.ContainsKey(key))
                Push(key);
        }
    }

    /// <summary>No more keys go in or out; whoever waits in <see cref="GetAsync"/> is cancelled.</summary>
    public void ShutDown() => _shutDown.Cancel();

    /// <inheritdoc/>
    public void Dispose()
    {
        ShutDown();
        _timer.Dispose();
        _shutDown.Dispose();
        _signal.Dispose();
    }

    private void Push(TKey key)
    {
        if (_ready.Count == 0 && _processing.Count == 0)
            _movedAt = _time.GetTimestamp();
        _ready.Enqueue(key);
        _metrics?.Depth(_ready.Count);
        _signal.Release();
    }

    private void MoveDue()
    {
        List<TKey> due = [];
        lock (_lock)
        {
            long now = _time.GetTimestamp();
            while (_timetable.TryPeek(out TKey? key, out long at) && at <= now)
            {
                _timetable.Dequeue();
                // An entry that was overtaken by an earlier one of the same key is void.
                if (_waiting.TryGetValue(key, out long current) && current == at)
                {
                    _waiting.Remove(key);
                    due.Add(key);
                }
            }

            SetTimer();
        }

        foreach (TKey key in due)
            Add(key);
    }

    private void SetTimer()
    {
        if (!_timetable.TryPeek(out _, out long next) || _shutDown.IsCancellationRequested)
            return;
        double wait = (next - _time.GetTimestamp()) * 1000.0 / _time.TimestampFrequency;
        // Rounded up, since a timer counts whole milliseconds and one that fires early would only be set again.
        _timer.Change(TimeSpan.FromMilliseconds(Math.Clamp(Math.Ceiling(wait), 0, int.MaxValue)), Timeout.InfiniteTimeSpan);
    }

    private (double Sum, double Longest) Unfinished()
    {
        lock (_lock)
        {
            (double sum, double longest) = (0.0, 0.0);
            foreach (long since in _processing.Values)
            {
                double seconds = _time.GetElapsedTime(since).TotalSeconds;
                sum += seconds;
                longest = Math.Max(longest, seconds);
            }

            return (sum, longest);
        }
    }
}

/// <summary>The metrics of a queue, named as client-go's.</summary>
internal sealed class WorkQueueMetrics
{
    private static readonly HistogramConfiguration Buckets = new() { Buckets = [1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1, 10, 100, 1000] };
    private readonly Gauge.Child _depth;
    private readonly Counter.Child _adds;
    private readonly Histogram.Child _queued;
    private readonly Histogram.Child _worked;
    private readonly Counter.Child _retries;

    public WorkQueueMetrics(string name, CollectorRegistry metrics, Func<(double Sum, double Longest)> unfinished)
    {
        MetricFactory factory = Metrics.WithCustomRegistry(metrics);
        string[] labels = ["name"];
        _depth = factory.CreateGauge("workqueue_depth", "Current depth of workqueue.", labels).WithLabels(name);
        _adds = factory.CreateCounter("workqueue_adds_total", "Total number of adds handled by workqueue.", labels).WithLabels(name);
        _queued = factory
            .CreateHistogram(
                "workqueue_queue_duration_seconds",
                "How long in seconds an item stays in workqueue before being requested.",
                labels,
                Buckets
            )
            .WithLabels(name);
        _worked = factory
            .CreateHistogram(
                "workqueue_work_duration_seconds",
                "How long in seconds processing an item from workqueue takes.",
                labels,
                Buckets
            )
            .WithLabels(name);
        _retries = factory
            .CreateCounter("workqueue_retries_total", "Total number of retries handled by workqueue.", labels)
            .WithLabels(name);
        Gauge.Child unfinishedWork = factory
            .CreateGauge(
                "workqueue_unfinished_work_seconds",
                "How many seconds of work has been done that is in progress and hasn't been observed by work_duration.",
                labels
            )
            .WithLabels(name);
        Gauge.Child longest = factory
            .CreateGauge(
                "workqueue_longest_running_processor_seconds",
                "How many seconds has the longest running processor for workqueue been running.",
                labels
            )
            .WithLabels(name);
        metrics.AddBeforeCollectCallback(() =>
        {
            (double Sum, double Longest) now = unfinished();
            unfinishedWork.Set(now.Sum);
            longest.Set(now.Longest);
        });
    }

    public void Added() => _adds.Inc();

    public void Depth(int depth) => _depth.Set(depth);

    public void Retried() => _retries.Inc();

    public void Taken(TimeSpan queued, int depth)
    {
        _queued.Observe(queued.TotalSeconds);
        _depth.Set(depth);
    }

    public void Finished(TimeSpan worked) => _worked.Observe(worked.TotalSeconds);
}
