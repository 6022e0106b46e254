using System.Collections.Concurrent;
using System.Diagnostics;
using k8s;
using k8s.Models;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Prometheus;

namespace PciOperator.Kubernetes;

/// <summary>
/// Runs a controller: changes in the cache put keys into the queue, workers take them and reconcile the newest state that
/// the cache has. Errors are logged and counted, and the key comes again with backoff; so it does after a conflict,
/// which is no error.
/// </summary>
/// <typeparam name="TEntity">The kind that the controller is for.</typeparam>
public sealed class ControllerLoop<TEntity> : IDisposable
    where TEntity : class, IKubernetesObject<V1ObjectMeta>
{
    private static readonly TimeSpan StuckAfter = TimeSpan.FromMinutes(10);

    // After an outage of any length everything is looked at again within this time.
    private static readonly TimeSpan MostBackoff = TimeSpan.FromMinutes(1);

    private readonly string _name;
    private readonly WatchCache<TEntity> _cache;
    private readonly IEntityController<TEntity> _controller;
    private readonly WorkQueue<EntityKey> _queue;
    private readonly bool _ownsQueue;
    private readonly int _workers;
    private readonly ILogger _logger;
    private readonly TimeProvider _time;
    private readonly TimeSpan? _resync;
    private readonly ConcurrentDictionary<EntityKey, TEntity> _deleted = new();
    private readonly Counter _reconciles;
    private readonly Counter.Child _errors;
    private readonly Histogram.Child _durations;
    private readonly Gauge.Child _active;
    private readonly Gauge _lastSuccess;

    /// <summary>Joins a cache, which the caller runs, to a controller.</summary>
    /// <param name="name">What metrics and logs call the controller.</param>
    /// <param name="cache">The entities.</param>
    /// <param name="controller">What to do for them.</param>
    /// <param name="queue">The queue; null: one of the loop's own, named after it, in which namespaces take turns.</param>
    /// <param name="workers">How many entities at a time.</param>
    /// <param name="logger">Log.</param>
    /// <param name="metrics">Where <c>pcioperator_reconcile_*</c> go.</param>
    /// <param name="time">Clock.</param>
    /// <param name="resync">How often every entity is looked at without a change; null: never.</param>
    public ControllerLoop(
        string name,
        WatchCache<TEntity> cache,
        IEntityController<TEntity> controller,
        WorkQueue<EntityKey>? queue = null,
        int workers = 1,
        ILogger? logger = null,
        CollectorRegistry? metrics = null,
        TimeProvider? time = null,
        TimeSpan? resync = null
    )
    {
        ArgumentNullException.ThrowIfNull(cache);
        ArgumentOutOfRangeException.ThrowIfLessThan(workers, 1);
        _name = name;
        _cache = cache;
        _controller = controller;
        _time = time ?? TimeProvider.System;
        _queue = queue ?? new WorkQueue<EntityKey>(name, _time, metrics, maxBackoff: MostBackoff, turnOf: key => key.Namespace ?? "");
        _ownsQueue = queue is null;
        _workers = workers;
        _logger = logger ?? NullLogger.Instance;
        _resync = resync;
        MetricFactory factory = Metrics.WithCustomRegistry(metrics ?? Metrics.NewCustomRegistry());
        _reconciles = factory.CreateCounter(
            "pcioperator_reconcile_total",
            "Reconciles by controller and result (success, parked, requeue, requeue_after, conflict, error).",
            ["controller", "result"]
        );
        _errors = factory
            .CreateCounter("pcioperator_reconcile_errors_total", "Reconciles that failed with an error.", ["controller"])
            .WithLabels(name);
        _durations = factory
            .CreateHistogram(
                "pcioperator_reconcile_duration_seconds",
                "How long a reconcile took.",
                ["controller"],
                HistogramBuckets.Seconds
            )
            .WithLabels(name);
        _active = factory.CreateGauge("pcioperator_active_workers", "Workers that reconcile right now.", ["controller"]).WithLabels(name);
        _lastSuccess = factory.CreateGauge(
            "pcioperator_reconcile_last_success_timestamp_seconds",
            "When an object of the controller's kind was last reconciled without an error.",
            ["kind"]
        );
        _cache.OnChange(Changed);
    }

    /// <summary>Why the controller makes no headway, or null: for <c>/healthz</c>. Every call has a time limit far below this.</summary>
    public string? WhyStuck()
    {
        TimeSpan still = _queue.StandsStillFor;
        return still > StuckAfter ? $"the queue of {_name} has stood still for {still.TotalSeconds:0} s with {_queue.Count} waiting" : null;
    }

    /// <summary>Looks at an entity although it did not change, e.g. because something that it depends on did.</summary>
    public void Enqueue(EntityKey key) => _queue.Add(key);

    /// <summary>The same after a while.</summary>
    public void EnqueueAfter(EntityKey key, TimeSpan delay) => _queue.AddAfter(key, delay);

    /// <summary>Whether an entity comes again with backoff, since looking at it failed, or led to nothing, the last time.</summary>
    public bool BacksOff(EntityKey key) => _queue.Failures(key) > 0;

    /// <summary>Works until cancelled; then lets the reconciles under way end and returns.</summary>
    public async Task RunAsync(CancellationToken ct)
    {
        try
        {
            await _cache.WaitForSyncAsync(ct);
            var tasks = Enumerable.Range(0, _workers).Select(_ => Task.Run(() => WorkAsync(ct), CancellationToken.None)).ToList();
            if (_resync is { } period)
                tasks.Add(ResyncAsync(period, ct));
            await Task.WhenAll(tasks);
        }
        catch (OperationCanceledException) when (ct.IsCancellationRequested)
        {
            // Asked to stop.
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_ownsQueue)
            _queue.Dispose();
    }

    private void Changed(WatchCacheChange<TEntity> change)
    {
        var key = EntityKey.Of((change.New ?? change.Old)!);
        if (change.Kind == WatchCacheChangeKind.Deleted)
            _deleted[key] = change.Old!;
        _queue.Add(key);
    }

    private async Task ResyncAsync(TimeSpan period, CancellationToken ct)
    {
        using var timer = new PeriodicTimer(period, _time);
        while (await timer.WaitForNextTickAsync(ct))
        {
            foreach (TEntity entity in _cache.List())
                _queue.Add(EntityKey.Of(entity));
        }
    }

    private async Task WorkAsync(CancellationToken ct)
    {
        while (true)
        {
            EntityKey key = await _queue.GetAsync(ct);
            _active.Inc();
            long started = Stopwatch.GetTimestamp();
            string result = "error";
            try
            {
                result = await ReconcileAsync(key, ct);
            }
            finally
            {
                _active.Dec();
                _durations.Observe(Stopwatch.GetElapsedTime(started).TotalSeconds);
                _reconciles.WithLabels(_name, result).Inc();
                if (result is not ("error" or "conflict"))
                    _lastSuccess.WithLabels(EntityType<TEntity>.Kind).Set(_time.GetUtcNow().ToUnixTimeMilliseconds() / 1000.0);
                _queue.Done(key);
            }
        }
    }

    private async Task<string> ReconcileAsync(EntityKey key, CancellationToken ct)
    {
#pragma warning disable CA1031 // Whatever a controller throws means: try again later.
        try
        {
            ReconciliationResult result = await ReconcileNewestAsync(key, ct);
            if (result.IsParked)
                return "parked";

            if (result.RequeueAfter is { } delay)
            {
                _queue.Forget(key);
                _queue.AddAfter(key, delay);
                return "requeue_after";
            }

            if (result.Requeue)
            {
                _queue.AddRateLimited(key);
                return "requeue";
            }

            _queue.Forget(key);
            return "success";
        }
        catch (OperationCanceledException) when (ct.IsCancellationRequested)
        {
            throw;
        }
        catch (ApiException e) when (e.IsConflict)
        {
            _logger.LogDebug(
                "{Controller}: {Key} was changed by somebody else meanwhile; again with the newer state. {Message}",
                _name,
                key,
                e.Message
            );
            _queue.AddRateLimited(key);
            return "conflict";
        }
        catch (Exception e)
        {
            _logger.LogError(
                e,
                "{Controller}: reconciling {Key} failed ({Failures} times in a row); it will be tried again: {Message}",
                _name,
                key,
                _queue.Failures(key) + 1,
                e.Cause()
            );
            _errors.Inc();
            _queue.AddRateLimited(key);
            return "error";
        }
#pragma warning restore CA1031
    }

    private async Task<ReconciliationResult> ReconcileNewestAsync(EntityKey key, CancellationToken ct)
    {
        // The deletion first: the name may already be in use again.
        if (_deleted.TryGetValue(key, out TEntity? gone))
        {
            await _controller.DeletedAsync(gone, ct);
            _deleted.TryRemove(KeyValuePair.Create(key, gone));
        }

        return _cache.Get(key.Name, key.Namespace) is { } entity ? await _controller.ReconcileAsync(entity, ct) : ReconciliationResult.Done;
    }
}
