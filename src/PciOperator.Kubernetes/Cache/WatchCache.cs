using System.Threading.Channels;
using k8s;
using k8s.Models;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Prometheus;

namespace PciOperator.Kubernetes;

/// <summary>
/// A copy of all objects of one kind (an informer): one paged list, then a watch that is taken up again wherever it broke
/// off, and a new list, with the deletions and updates that were missed, when the server no longer knows that place.
/// </summary>
/// <remarks>
/// Objects in it are shared: never change one, make another with <c>with</c>. Reading is safe from any thread. Handlers
/// run one after the other, in the order of the changes; the cache may already be ahead of what a handler is told.
/// </remarks>
public sealed class WatchCache<T> : IAsyncDisposable
    where T : class, IKubernetesObject<V1ObjectMeta>
{
    // A server sends a bookmark about every minute; one that is silent for longer than this is taken for dead.
    private static readonly TimeSpan Silence = TimeSpan.FromMinutes(2.5);

    // The silence that is put up with, and the time to get over it.
    private static readonly TimeSpan OldAfter = TimeSpan.FromMinutes(4);

    // Every list, watch and pause ends long before.
    private static readonly TimeSpan StuckAfter = TimeSpan.FromMinutes(15);

    // A server that is away is noticed sooner, but for one that does not answer at all.
    private static readonly TimeSpan TakenUpAfter = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan MinBackoff = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan MaxBackoff = TimeSpan.FromSeconds(30);

    private readonly IEntityClient _client;
    private readonly string? _namespace;
    private readonly ListOptions _options;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly Random _random;
    private readonly Lock _lock = new();
    private readonly ObjectStore<T> _store;
    private readonly List<Action<WatchCacheChange<T>>> _handlers = [];
    private readonly Channel<Action> _notices = Channel.CreateUnbounded<Action>(new UnboundedChannelOptions { SingleReader = true });
    private readonly TaskCompletionSource _synced = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly CancellationTokenSource _stop = new();
    private readonly Counter _lists;
    private readonly Counter _events;
    private readonly Counter.Child _unreadable;
    private readonly Gauge _lastSuccess;
    private long _heardAt;
    private long _triedAt;
    private Failure? _failed;
    private Task? _run;

    /// <summary>Makes an empty cache; <see cref="RunAsync"/> fills it.</summary>
    /// <param name="client">The server.</param>
    /// <param name="ns">Namespace; null: cluster scope, or all.</param>
    /// <param name="options">Selectors and page size.</param>
    /// <param name="time">Clock for backoff and the watchdog.</param>
    /// <param name="logger">Log.</param>
    /// <param name="metrics">Where <c>pcioperator_watch_cache_*</c> go.</param>
    /// <param name="random">Spreads the backoff; seeded in tests.</param>
    public WatchCache(
        IEntityClient client,
        string? ns = null,
        ListOptions? options = null,
        TimeProvider? time = null,
        ILogger? logger = null,
        CollectorRegistry? metrics = null,
        Random? random = null
    )
    {
        _client = client;
        _namespace = ns;
        _options = options ?? new ListOptions();
        _time = time ?? TimeProvider.System;
        _logger = logger ?? NullLogger.Instance;
        _random = random ?? Random.Shared;
        _heardAt = _triedAt = _time.GetTimestamp();
        _store = new ObjectStore<T>(Announce, BecameUnreadable);
        metrics ??= Metrics.NewCustomRegistry();
        MetricFactory factory = Metrics.WithCustomRegistry(metrics);
        string[] labels = ["kind"];
        _lists = factory.CreateCounter(
            "pcioperator_watch_cache_lists_total",
            "Full lists, the first and those after a watch was lost.",
            labels
        );
        _events = factory.CreateCounter("pcioperator_watch_cache_events_total", "Watch events received, bookmarks included.", labels);
        _unreadable = factory
            .CreateCounter(
                "pcioperator_watch_cache_unreadable_total",
                "States of objects that could not be read and were left alone.",
                labels
            )
            .WithLabels(EntityType<T>.Kind);
        _lastSuccess = factory.CreateGauge(
            "pcioperator_watch_cache_last_success_timestamp_seconds",
            "When the server was last heard of a kind: by a list, an event or a bookmark.",
            labels
        );
        Gauge.Child objects = factory
            .CreateGauge("pcioperator_watch_cache_objects", "Objects in the cache.", labels)
            .WithLabels(EntityType<T>.Kind);
        Gauge.Child unreadableNow = factory
            .CreateGauge("pcioperator_watch_cache_unreadable_objects", "Objects that the server has now and that can't be read.", labels)
            .WithLabels(EntityType<T>.Kind);
        metrics.AddBeforeCollectCallback(() =>
        {
            objects.Set(List().Count);
            unreadableNow.Set(Unreadable.Count);
        });
    }

    /// <summary>Adds an index for <see cref="ByIndex"/>.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="keys">The keys of an object; must depend on nothing but the object.</param>
    public void AddIndex(string name, Func<T, IEnumerable<string>> keys)
    {
        lock (_lock)
            _store.AddIndex(name, keys);
    }

    /// <summary>Adds a handler of changes, synthetic deletions and updates after a new list included. It is first told of all
    /// objects that are there. It must be quick and not block; what it throws is logged.</summary>
    public void OnChange(Action<WatchCacheChange<T>> handler)
    {
        lock (_lock)
        {
            foreach (T obj in _store.List())
                Post(handler, new WatchCacheChange<T>(WatchCacheChangeKind.Added, null, obj));
            _handlers.Add(handler);
        }
    }

    /// <summary>Whether the first list is in and the handlers were told of it.</summary>
    public bool HasSynced => _synced.Task.IsCompletedSuccessfully;

    /// <summary>Changes with every change of the contents.</summary>
    public long Version
    {
        get
        {
            lock (_lock)
                return _store.Version;
        }
    }

    /// <summary>
    /// The resource version up to which list and watch have told everything; what a write's answer told alone may be newer.
    /// </summary>
    public ulong ToldUpTo
    {
        get
        {
            lock (_lock)
                return _store.StreamVersion;
        }
    }

    /// <summary>Waits until <see cref="HasSynced"/>.</summary>
    public Task WaitForSyncAsync(CancellationToken ct = default) => _synced.Task.WaitAsync(ct);

    /// <summary>One object, or null.</summary>
    public T? Get(string name, string? ns = null)
    {
        lock (_lock)
            return _store.Get(new EntityKey(string.IsNullOrEmpty(ns) ? null : ns, name));
    }

    /// <summary>All objects: a snapshot that does not change.</summary>
    public IReadOnlyCollection<T> List()
    {
        lock (_lock)
            return _store.List();
    }

    /// <summary>The objects that the server has and that can't be read: a snapshot. Where an earlier state of one could be read,
    /// <see cref="Get"/> and <see cref="List"/> still have that.</summary>
    public IReadOnlyCollection<UnreadableObject> Unreadable
    {
        get
        {
            lock (_lock)
                return _store.Unreadable();
        }
    }

    /// <summary>
    /// Whether the server has an object of that name that can't be read: it is not gone then, whatever <see cref="Get"/> says.
    /// </summary>
    public bool IsUnreadable(string name, string? ns = null)
    {
        lock (_lock)
            return _store.IsUnreadable(new EntityKey(string.IsNullOrEmpty(ns) ? null : ns, name));
    }

    /// <summary>Why what the cache has may be old, or null: for <c>/readyz</c>.</summary>
    public string? WhyOld()
    {
        string error = Volatile.Read(ref _failed) is { } failed ? $": {failed.Error.Cause()}" : "";
        if (!HasSynced)
            return $"the first list of {EntityType<T>.Plural} is not in{error}";
        TimeSpan silence = _time.GetElapsedTime(Volatile.Read(ref _heardAt));
        return silence > OldAfter ? $"nothing was heard of {EntityType<T>.Plural} for {silence.TotalSeconds:0} s{error}" : null;
    }

    /// <summary>
    /// What the last list or watch failed with, for a person who looks at the contents; null: none did, or another is under way that the
    /// server has not refused for some seconds.
    /// </summary>
    public Exception? LastFailure =>
        Volatile.Read(ref _failed) is { } failed
        && (Volatile.Read(ref _triedAt) is var tried && (tried <= failed.At || _time.GetElapsedTime(tried) < TakenUpAfter))
            ? failed.Error
            : null;

    /// <summary>
    /// Why the cache does not even try any more, or null: for <c>/healthz</c>, since only a restart helps then. A server that is away is no
    /// reason.
    /// </summary>
    public string? WhyStuck()
    {
        if (_run is { IsCompleted: true })
            return $"the cache of {EntityType<T>.Plural} has stopped";
        TimeSpan idle = _time.GetElapsedTime(Volatile.Read(ref _triedAt));
        return _run is not null && idle > StuckAfter
            ? $"the cache of {EntityType<T>.Plural} has done nothing for {idle.TotalSeconds:0} s"
            : null;
    }

    /// <summary>The objects that have a key in an index: a snapshot.</summary>
    public IReadOnlyCollection<T> ByIndex(string index, string key)
    {
        lock (_lock)
            return _store.ByIndex(index, key);
    }

    /// <summary>
    /// Takes in a write's own answer, so that whoever reads the cache next sees it although the watch has not told of it yet.
    /// It is kept when it is newer than what is known; events from before it do not undo it, its deletion does. Give it only
    /// objects that the cache's selectors select.
    /// </summary>
    public void Observe(T written)
    {
        ArgumentNullException.ThrowIfNull(written);
        lock (_lock)
            _store.Observe(written);
    }

    /// <summary>Keeps the cache current until cancelled; then returns. Failures are logged and tried again, with backoff.</summary>
    /// <exception cref="InvalidOperationException">It runs already.</exception>
    public Task RunAsync(CancellationToken ct)
    {
        lock (_lock)
        {
            if (_run is not null)
                throw new InvalidOperationException($"The cache of {EntityType<T>.Plural} runs already.");
            return _run = Task.Run(() => RunUntilAsync(ct), CancellationToken.None);
        }
    }

    /// <summary>Stops and waits for the end of <see cref="RunAsync"/>.</summary>
    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        if (_run is not null)
            await _run;
        _stop.Dispose();
    }

    private async Task RunUntilAsync(CancellationToken ct)
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(ct, _stop.Token);
        Task dispatch = DispatchAsync(either.Token);
        int failures = 0;
        string? version = null;
        while (!either.IsCancellationRequested)
        {
            long started = _time.GetTimestamp();
            Volatile.Write(ref _triedAt, started);
#pragma warning disable CA1031 // A cache outlives whatever goes wrong with its server.
            try
            {
                if (version is null)
                    version = await ListAllAsync(either.Token);
                await foreach (string seen in WatchFromAsync(version, either.Token))
                {
                    version = seen;
                    failures = 0;
                }
            }
            catch (OperationCanceledException) when (either.IsCancellationRequested)
            {
                break;
            }
            catch (ApiException e) when (version is not null && (e.IsGone || e.IsNotFound || IsTooLargeVersion(e)))
            {
                _logger.LogInformation(
                    "The server no longer has version {Version} of {Kind}; listing them anew. {Message}",
                    version,
                    EntityType<T>.Plural,
                    e.Message
                );
                version = null;
                failures++;
                if (failures == 1)
                    continue;
            }
            catch (HistoryWentBackException e)
            {
                _logger.LogWarning(
                    "{Message} The server has another past (etcd was restored?); listing {Kind} anew.",
                    e.Message,
                    EntityType<T>.Plural
                );
                version = null;
                failures++;
                if (failures == 1)
                    continue;
            }
            catch (TimeoutException e)
            {
                // A server that was set back says nothing until it has come to our version again, and not what it did till then.
                _logger.LogInformation("{Message} Listing {Kind} anew.", e.Message, EntityType<T>.Plural);
                Failed(e);
                version = null;
                failures = 1;
            }
            catch (Exception e)
            {
                failures++;
                Failed(e);
                _logger.Log(
                    failures > 3 ? LogLevel.Warning : LogLevel.Information,
                    "{Verb} of {Kind} failed ({Failures} times in a row): {Message}",
                    version is null ? "List" : "Watch",
                    EntityType<T>.Plural,
                    failures,
                    e.Cause()
                );
                // Whatever it is that can't be got over from here, a new list may.
                if (failures % 5 == 0)
                    version = null;
            }
#pragma warning restore CA1031

            // A watch that ends in its time is taken up again at once; one that ends as soon as it begins is a failure too.
            if (failures == 0 && _time.GetElapsedTime(started) < TimeSpan.FromSeconds(1))
                failures = 1;
            if (failures > 0)
                await DelayAsync(failures, either.Token);
        }

        await dispatch;
    }

    private static bool IsTooLargeVersion(ApiException e) =>
        e.Status.Details?.Causes?.Any(c => c.Reason == "ResourceVersionTooLarge") == true;

    private async Task<string> ListAllAsync(CancellationToken ct)
    {
        EntityList<T> list = await _client.ListAsync<T>(
            _namespace,
            _options with
            {
                ResourceVersion = null,
                ResourceVersionMatch = null,
                Continue = null,
            },
            ct
        );
        _lists.WithLabels(EntityType<T>.Kind).Inc();
        lock (_lock)
        {
            if (!_store.Replace(list))
            {
                _logger.LogWarning(
                    "The version of {Kind} went backwards to {Version}: the server was set back; taking over what it has now.",
                    EntityType<T>.Plural,
                    list.Metadata.ResourceVersion
                );
            }
        }

        Heard();
        _notices.Writer.TryWrite(() => _synced.TrySetResult());
        return list.Metadata.ResourceVersion;
    }

    /// <summary>Applies events and gives the version after each; ends with the watch.</summary>
    private async IAsyncEnumerable<string> WatchFromAsync(
        string version,
        [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken ct
    )
    {
        using var silent = new CancellationTokenSource(Silence, _time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(ct, silent.Token);
        long armed = _time.GetTimestamp();
        await using IAsyncEnumerator<WatchEvent<T>> events = _client
            .WatchAsync<T>(
                _namespace,
                _options with
                {
                    ResourceVersion = version,
                    ResourceVersionMatch = null,
                    Continue = null,
                    Limit = null,
                    AllowBookmarks = true,
                },
                either.Token
            )
            .GetAsyncEnumerator(either.Token);
        while (true)
        {
            try
            {
                if (!await events.MoveNextAsync())
                    yield break;
            }
            catch (OperationCanceledException e) when (!ct.IsCancellationRequested && silent.IsCancellationRequested)
            {
                throw new TimeoutException($"No event and no bookmark for {Silence.TotalSeconds:0} s.", e);
            }

            long now = _time.GetTimestamp();
            if (_time.GetElapsedTime(armed, now) > TimeSpan.FromSeconds(1))
            {
                silent.CancelAfter(Silence);
                armed = now;
            }

            WatchEvent<T> watchEvent = events.Current;
            _events.WithLabels(EntityType<T>.Kind).Inc();
            bool inOrder;
            lock (_lock)
                inOrder = _store.Apply(watchEvent);
            if (!inOrder)
            {
                throw new HistoryWentBackException(
                    $"The watch of {EntityType<T>.Plural} told of version {watchEvent.ResourceVersion}, which is older than what it told before."
                );
            }

            Heard();
            yield return watchEvent.ResourceVersion;
        }
    }

    private void Failed(Exception error) => Volatile.Write(ref _failed, new Failure(error, _time.GetTimestamp()));

    private void Heard()
    {
        Volatile.Write(ref _failed, null);
        long now = _time.GetTimestamp();
        Volatile.Write(ref _heardAt, now);
        Volatile.Write(ref _triedAt, now);
        _lastSuccess.WithLabels(EntityType<T>.Kind).Set(_time.GetUtcNow().ToUnixTimeMilliseconds() / 1000.0);
    }

    /// <summary>Under the lock; once for each state.</summary>
    private void BecameUnreadable(UnreadableObject obj)
    {
        _unreadable.Inc();
        _logger.LogError(
            "{Kind} {Name} can't be read and is left as it is; everything else goes on. {Reason}",
            EntityType<T>.Kind,
            obj.Key.Name.Length > 0 ? obj.Key.ToString() : "without a readable name",
            obj.Reason
        );
    }

    private async Task DelayAsync(int failures, CancellationToken ct)
    {
        double longest = Math.Min(MaxBackoff.TotalMilliseconds, MinBackoff.TotalMilliseconds * Math.Pow(2, Math.Min(failures - 1, 20)));
        double part;
        lock (_random)
            part = 0.5 + (_random.NextDouble() / 2);
        try
        {
            await Task.Delay(TimeSpan.FromMilliseconds(longest * part), _time, ct);
        }
        catch (OperationCanceledException)
        {
            // The loop sees it.
        }
    }

    /// <summary>Under the lock, so that handlers are told in the order of the changes.</summary>
    private void Announce(WatchCacheChange<T> change)
    {
        foreach (Action<WatchCacheChange<T>> handler in _handlers)
            Post(handler, change);
    }

    private void Post(Action<WatchCacheChange<T>> handler, WatchCacheChange<T> change) => _notices.Writer.TryWrite(() => handler(change));

    private async Task DispatchAsync(CancellationToken ct)
    {
        try
        {
            await foreach (Action notice in _notices.Reader.ReadAllAsync(ct))
            {
#pragma warning disable CA1031 // One handler's error must not stop the others, nor the cache.
                try
                {
                    notice();
                }
                catch (Exception e)
                {
                    _logger.LogError(e, "A handler of changes of {Kind} failed.", EntityType<T>.Plural);
                }
#pragma warning restore CA1031
            }
        }
        catch (OperationCanceledException)
        {
            // Stopped.
        }
    }

    private sealed record Failure(Exception Error, long At);

    private sealed class HistoryWentBackException(string message) : Exception(message);
}
