using System.Globalization;
using System.Text;
using System.Threading.Channels;
using k8s;
using k8s.Models;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Prometheus;

namespace PciOperator.Kubernetes;

/// <summary>
/// Writes events that <c>kubectl describe</c> shows (<c>events.k8s.io/v1</c>). The same thing happening to the same object again
/// is one event with a growing series (KEP-383). Recording neither blocks nor throws: events wait in a bounded queue, and
/// what does not fit or can't be written is counted and left out.
/// </summary>
/// <remarks>Notes should be fixed sentences: whatever varies in them (a time, a count) makes each a new event.</remarks>
public sealed class EventRecorder : IAsyncDisposable
{
    private const int QueueLength = 1000;
    private const int MaxSeries = 4096;
    private const int Attempts = 4;

    // As client-go: a series that was quiet for this long is over, and the next occurrence begins a new event.
    private static readonly TimeSpan SeriesEnd = TimeSpan.FromMinutes(6);

    // A series is written at once when it begins and then at most this often.
    private static readonly TimeSpan WriteEvery = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan TellEvery = TimeSpan.FromMinutes(1);
    private static readonly TimeSpan FlushLimit = TimeSpan.FromSeconds(5);

    private readonly IEntityClient _client;
    private readonly string _controller;
    private readonly string _instance;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly Counter _written;
    private readonly Counter _dropped;
    private readonly Channel<Occurrence> _queue = Channel.CreateBounded<Occurrence>(
        new BoundedChannelOptions(QueueLength) { SingleReader = true }
    );
    private readonly Dictionary<SeriesKey, Series> _series = [];
    private readonly CancellationTokenSource _stop = new();
    private readonly Task _run;
    private readonly Lock _dropLock = new();
    private long _nameTick;
    private int _untold;
    private long? _toldAt;

    /// <summary>Starts a recorder.</summary>
    /// <param name="client">The server.</param>
    /// <param name="reportingController">The program, e.g. <c>pcioperator.io/controller</c>.</param>
    /// <param name="reportingInstance">Which of its instances, e.g. the pod's name.</param>
    /// <param name="time">Clock.</param>
    /// <param name="logger">Log.</param>
    /// <param name="metrics">Where <c>pcioperator_events_*</c> go.</param>
    public EventRecorder(
        IEntityClient client,
        string reportingController,
        string reportingInstance,
        TimeProvider? time = null,
        ILogger? logger = null,
        CollectorRegistry? metrics = null
    )
    {
        ArgumentException.ThrowIfNullOrEmpty(reportingController);
        ArgumentException.ThrowIfNullOrEmpty(reportingInstance);
        _client = client;
        _controller = Truncate(reportingController, 63);
        _instance = Truncate(reportingInstance, 128);
        _time = time ?? TimeProvider.System;
        _logger = logger ?? NullLogger.Instance;
        MetricFactory factory = Metrics.WithCustomRegistry(metrics ?? Metrics.NewCustomRegistry());
        _written = factory.CreateCounter("pcioperator_events_written_total", "Writes of events, new ones and series.");
        _dropped = factory.CreateCounter(
            "pcioperator_events_dropped_total",
            "Events that were left out because too many waited or the server refused them."
        );
        _run = Task.Run(RunAsync);
    }

    /// <summary>Something ordinary happened.</summary>
    /// <param name="regarding">The object that it is about; with its name, and its UID if <c>kubectl describe</c> is to show it.</param>
    /// <param name="reason">Why, in CamelCase.</param>
    /// <param name="note">A sentence for people.</param>
    /// <param name="action">What was done, in CamelCase.</param>
    public void Normal(IKubernetesObject<V1ObjectMeta> regarding, string reason, string note, string action = "Reconcile") =>
        Record("Normal", regarding, reason, note, action);

    /// <summary>Something happened that a person should look at.</summary>
    /// <inheritdoc cref="Normal" path="/param"/>
    public void Warning(IKubernetesObject<V1ObjectMeta> regarding, string reason, string note, string action = "Reconcile") =>
        Record("Warning", regarding, reason, note, action);

    /// <summary>Writes what waits, for a few seconds at most, and stops.</summary>
    public async ValueTask DisposeAsync()
    {
        if (!_queue.Writer.TryComplete())
            return;
        await Task.WhenAny(_run, Task.Delay(FlushLimit, _time));
        await _stop.CancelAsync();
        await _run;
        _stop.Dispose();
    }

    private void Record(string type, IKubernetesObject<V1ObjectMeta> regarding, string reason, string note, string action)
    {
        V1ObjectMeta meta = regarding.Metadata;
        (string? apiVersion, string? kind) = EntityType.Of(regarding);
        var key = new SeriesKey(
            type,
            apiVersion,
            kind,
            meta.NamespaceProperty ?? "",
            meta.Name ?? "",
            meta.Uid ?? "",
            Truncate(reason, 128),
            Truncate(note, 1024),
            Truncate(action, 128)
        );
        if (!_queue.Writer.TryWrite(new Occurrence(key, meta.ResourceVersion, _time.GetUtcNow(), _time.GetTimestamp())))
            Dropped(key);
    }

    /// <summary>Counted each time, and told at most once a minute: whoever records too much must not fill the log as well.</summary>
    private void Dropped(SeriesKey key)
    {
        _dropped.Inc();
        int untold;
        lock (_dropLock)
        {
            _untold++;
            if (_toldAt is { } told && _time.GetElapsedTime(told) < TellEvery)
                return;
            (untold, _untold) = (_untold, 0);
            _toldAt = _time.GetTimestamp();
        }

        _logger.LogWarning(
            "{Count} events were left out, since {Waiting} wait to be written; the last is {Reason} for {Kind} {Name}.",
            untold,
            QueueLength,
            key.Reason,
            key.Kind,
            key.Name
        );
    }

    private async Task RunAsync()
    {
        CancellationToken ct = _stop.Token;
        try
        {
            Task<bool>? more = null;
            while (true)
            {
                more ??= _queue.Reader.WaitToReadAsync(ct).AsTask();
                if (NextDue() is { } wait && !more.IsCompleted)
                {
                    using var stopWaiting = CancellationTokenSource.CreateLinkedTokenSource(ct);
                    await Task.WhenAny(more, Task.Delay(wait, _time, stopWaiting.Token));
                    await stopWaiting.CancelAsync();
                    await WriteDueAsync(all: false, ct);
                    if (!more.IsCompleted)
                        continue;
                }

                if (!await more)
                    break;
                more = null;
                while (_queue.Reader.TryRead(out Occurrence occurrence))
                    await TakeAsync(occurrence, ct);
                Forget();
            }

            await WriteDueAsync(all: true, ct);
        }
        catch (OperationCanceledException)
        {
            // Stopped before everything was written.
        }
    }

    private async Task TakeAsync(Occurrence occurrence, CancellationToken ct)
    {
        SeriesKey key = occurrence.Key;
        if (_series.TryGetValue(key, out Series? series) && _time.GetElapsedTime(series.SeenAt, occurrence.SeenAt) < SeriesEnd)
        {
            series.Count++;
            series.Last = occurrence.At;
            series.SeenAt = occurrence.SeenAt;
            if (series.WrittenAt is not { } written || _time.GetElapsedTime(written) >= WriteEvery)
                await WriteSeriesAsync(key, series, ct);
            return;
        }

        if (series is not null && series.Count != series.WrittenCount)
            await WriteSeriesAsync(key, series, ct);
        series = new Series
        {
            Event = NewEvent(occurrence),
            Count = 1,
            WrittenCount = 1,
            Last = occurrence.At,
            SeenAt = occurrence.SeenAt,
        };
        if (await TryAsync(() => _client.CreateAsync(series.Event, ct), key, ct))
            _series[key] = series;
        else
            _series.Remove(key);
    }

    private async Task WriteSeriesAsync(SeriesKey key, Series series, CancellationToken ct)
    {
        series.WrittenAt = _time.GetTimestamp();
        series.WrittenCount = series.Count;
        string last = series.Last.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.ffffff'Z'", CultureInfo.InvariantCulture);
        var patch = EntityPatch.Merge($$$"""{"series":{"count":{{{series.Count}}},"lastObservedTime":"{{{last}}}"}}""");
        V1ObjectMeta meta = series.Event.Metadata;
        await TryAsync(
            async () =>
            {
                try
                {
                    await _client.PatchAsync<Eventsv1Event>(meta.Name!, meta.NamespaceProperty, patch, null, ct);
                }
                catch (ApiException e) when (e.IsNotFound)
                {
                    // It expired, or somebody deleted it: begin again with the count so far.
                    await _client.CreateAsync(
                        series.Event with
                        {
                            Series = new Eventsv1EventSeries { Count = series.Count, LastObservedTime = series.Last.UtcDateTime },
                        },
                        ct
                    );
                }
            },
            key,
            ct
        );
    }

    /// <summary>When the next series wants to be written; null: none does.</summary>
    private TimeSpan? NextDue()
    {
        TimeSpan? next = null;
        foreach (Series series in _series.Values)
        {
            if (series.Count == series.WrittenCount)
                continue;
            TimeSpan left = series.WrittenAt is { } written ? WriteEvery - _time.GetElapsedTime(written) : TimeSpan.Zero;
            next = next is null || left < next ? left : next;
        }

        return next < TimeSpan.Zero ? TimeSpan.Zero : next;
    }

    private async Task WriteDueAsync(bool all, CancellationToken ct)
    {
        foreach ((SeriesKey? key, Series? series) in _series.ToList())
        {
            if (
                series.Count != series.WrittenCount
                && (all || series.WrittenAt is not { } written || _time.GetElapsedTime(written) >= WriteEvery)
            )
            {
                await WriteSeriesAsync(key, series, ct);
            }
        }
    }

    private void Forget()
    {
        if (_series.Count <= MaxSeries)
            return;
        foreach ((SeriesKey? key, Series? series) in _series.ToList())
        {
            if (_time.GetElapsedTime(series.SeenAt) >= SeriesEnd)
                _series.Remove(key);
        }

        // Still too many: those that were quiet for longest go. Their next occurrence is a new event.
        foreach ((SeriesKey? key, Series _) in _series.OrderBy(s => s.Value.SeenAt).Take(Math.Max(0, _series.Count - MaxSeries)).ToList())
            _series.Remove(key);
    }

    private async Task<bool> TryAsync(Func<Task> write, SeriesKey key, CancellationToken ct)
    {
        for (int attempt = 1; ; attempt++)
        {
            try
            {
                await write();
                _written.Inc();
                return true;
            }
            catch (ApiException e) when (e.IsAlreadyExists && attempt > 1)
            {
                // The first attempt arrived after all.
                return true;
            }
#pragma warning disable CA1031 // One event that can't be written must not end the writing of all.
            catch (Exception e) when (e is not OperationCanceledException || !ct.IsCancellationRequested)
#pragma warning restore CA1031
            {
                // A refusal is final; a server in trouble is asked again.
                bool final = e is ApiException { StatusCode: < System.Net.HttpStatusCode.InternalServerError, IsTooManyRequests: false };
                if (final || attempt == Attempts)
                {
                    _logger.LogWarning(
                        "Event {Reason} for {Kind} {Name} was not written: {Message}",
                        key.Reason,
                        key.Kind,
                        key.Name,
                        e.Cause()
                    );
                    _dropped.Inc();
                    return false;
                }
            }

            await Task.Delay(TimeSpan.FromSeconds(attempt), _time, ct);
        }
    }

    private Eventsv1Event NewEvent(Occurrence occurrence)
    {
        SeriesKey key = occurrence.Key;
        _nameTick = Math.Max(_nameTick + 1, occurrence.At.UtcTicks);
        return new Eventsv1Event
        {
            Metadata = new V1ObjectMeta
            {
                // As client-go names them, by the time.
                Name = $"{Truncate(key.Name.Length == 0 ? "unnamed" : key.Name, 200)}.{_nameTick:x}",
                // Events of cluster-scoped objects live in "default"; the server insists.
                NamespaceProperty = key.Namespace.Length > 0 ? key.Namespace : "default",
            },
            EventTime = occurrence.At.UtcDateTime,
            ReportingController = _controller,
            ReportingInstance = _instance,
            Action = key.Action,
            Reason = key.Reason,
            Note = key.Note,
            Type = key.Type,
            Regarding = new V1ObjectReference
            {
                ApiVersion = key.ApiVersion,
                Kind = key.Kind,
                Name = key.Name,
                NamespaceProperty = key.Namespace.Length > 0 ? key.Namespace : null,
                Uid = key.Uid.Length > 0 ? key.Uid : null,
                ResourceVersion = occurrence.ResourceVersion,
            },
        };
    }

    /// <summary>At most so many bytes of UTF-8, as the server counts them.</summary>
    internal static string Truncate(string text, int bytes)
    {
        if (Encoding.UTF8.GetByteCount(text) <= bytes)
            return text;
        int length = Math.Min(text.Length, bytes);
        while (Encoding.UTF8.GetByteCount(text.AsSpan(0, length)) > bytes - 3 || char.IsHighSurrogate(text[length - 1]))
            length--;
        return bytes > 100 ? text[..length] + "…" : text[..length];
    }

    private readonly record struct Occurrence(SeriesKey Key, string? ResourceVersion, DateTimeOffset At, long SeenAt);

    private sealed record SeriesKey(
        string Type,
        string ApiVersion,
        string Kind,
        string Namespace,
        string Name,
        string Uid,
        string Reason,
        string Note,
        string Action
    );

    private sealed class Series
    {
        public required Eventsv1Event Event { get; init; }

        public int Count { get; set; }

        public int WrittenCount { get; set; }

        public DateTimeOffset Last { get; set; }

        public long SeenAt { get; set; }

        public long? WrittenAt { get; set; }
    }
}
