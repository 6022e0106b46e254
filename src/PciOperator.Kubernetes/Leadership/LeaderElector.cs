using k8s.Models;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Prometheus;
using ITimer = System.Threading.ITimer;

namespace PciOperator.Kubernetes;

/// <summary>
/// Leader election on a Lease, as in client-go's <c>leaderelection</c> but stricter: the right to lead is counted on the
/// monotonic clock from before the last successful renewal was <em>sent</em>, and the work is told to stop at
/// <see cref="LeaseLock.RenewDeadline"/>, by a timer of its own that no slow call can hold up. Nobody else can take the lease
/// before <see cref="LeaseLock.LeaseDuration"/> after that moment.
/// </summary>
public sealed class LeaderElector
{
    // Of our own lease's length: other versions may have a longer one, but not one that outlasts everybody's patience.
    private const int MostLeases = 10;

    private readonly IEntityClient _client;
    private readonly LeaseLock _options;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly Random _random;
    private readonly Gauge.Child _status;
    private V1Lease? _observed;
    private long _observedAt;
    private long _leadsUntil;
    private long _heardAt;
    private string? _lastError;
    private volatile bool _leading;

    /// <summary>Makes a candidate.</summary>
    /// <param name="client">The server.</param>
    /// <param name="lock">Lease and times.</param>
    /// <param name="time">Clock; its timestamps must be monotonic.</param>
    /// <param name="logger">Log.</param>
    /// <param name="metrics">Where <c>leader_election_master_status</c> goes.</param>
    /// <param name="random">Spreads the candidates' attempts; seeded in tests.</param>
    public LeaderElector(
        IEntityClient client,
        LeaseLock @lock,
        TimeProvider? time = null,
        ILogger? logger = null,
        CollectorRegistry? metrics = null,
        Random? random = null
    )
    {
        ArgumentNullException.ThrowIfNull(@lock);
        @lock.Validate();
        _client = client;
        _options = @lock;
        _time = time ?? TimeProvider.System;
        _logger = logger ?? NullLogger.Instance;
        _random = random ?? Random.Shared;
        _status = Metrics
            .WithCustomRegistry(metrics ?? Metrics.NewCustomRegistry())
            .CreateGauge(
                "leader_election_master_status",
                "Gauge of if the reporting system is master of the relevant lease, 0 indicates backup, 1 indicates master.",
                ["name"]
            )
            .WithLabels(_options.Name);
        _heardAt = _time.GetTimestamp();
    }

    /// <summary>Why the lease can be neither renewed nor watched, or null: for <c>/readyz</c>. Whoever waits to lead is well.</summary>
    public string? WhyNotWell()
    {
        TimeSpan silence = _time.GetElapsedTime(Volatile.Read(ref _heardAt));
        return silence > _options.LeaseDuration * 2
            ? $"the lease {_options.Namespace}/{_options.Name} was neither read nor renewed for {silence.TotalSeconds:0} s{(Volatile.Read(ref _lastError) is { } error ? $": {error}" : "")}"
            : null;
    }

    private void Heard()
    {
        Volatile.Write(ref _heardAt, _time.GetTimestamp());
        Volatile.Write(ref _lastError, null);
    }

    /// <summary>Whether this candidate may lead at this moment.</summary>
    public bool IsLeader => _leading && _time.GetTimestamp() < Volatile.Read(ref _leadsUntil);

    /// <summary>Waits to become the leader, then leads.</summary>
    /// <param name="lead">The work; its token is cancelled when leadership is lost or <paramref name="ct"/> is cancelled, and it
    /// should then end within <c>LeaseDuration − RenewDeadline</c>.</param>
    /// <param name="ct">Orderly stop: the work is ended first, then the lease released for the next, then this returns.</param>
    /// <exception cref="LeadershipLostException">The lease could not be renewed, or somebody else has it.</exception>
    public async Task RunAsync(Func<CancellationToken, Task> lead, CancellationToken ct)
    {
        ArgumentNullException.ThrowIfNull(lead);
        long sentAt;
        try
        {
            sentAt = await AcquireAsync(ct);
        }
        catch (OperationCanceledException) when (ct.IsCancellationRequested)
        {
            return;
        }

        _logger.LogInformation("Leading as {Identity} (lease {Namespace}/{Name}).", _options.Identity, _options.Namespace, _options.Name);
        _status.Set(1);
        try
        {
            await LeadAsync(lead, sentAt, ct);
        }
        finally
        {
            _leading = false;
            _status.Set(0);
        }
    }

    private async Task LeadAsync(Func<CancellationToken, Task> lead, long sentAt, CancellationToken ct)
    {
        using var work = CancellationTokenSource.CreateLinkedTokenSource(ct);
        using var lost = new CancellationTokenSource();
        // The timer that ends the work, whatever else hangs.
        using ITimer deadline = _time.CreateTimer(_ => lost.Cancel(), null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        using CancellationTokenRegistration toldLost = lost.Token.Register(() => _ = CancelAsync(work));
        Extend(deadline, sentAt);
        _leading = true;

        using var renewing = CancellationTokenSource.CreateLinkedTokenSource(lost.Token);
        Task renewal = RenewAsync(deadline, lost, renewing.Token);
        Task working = StartAsync(lead, work.Token);
        await Task.WhenAny(working, Cancelled(lost.Token));
        // Off the timer's thread, where this may have gone on.
        await Task.Yield();

        if (!lost.IsCancellationRequested)
        {
            // The work ended by itself or by order. While it was ending the lease was still being renewed.
            renewing.Cancel();
            await renewal;
            if (!lost.IsCancellationRequested)
                await ReleaseAsync();
            if (ct.IsCancellationRequested)
                await IgnoreCancellationAsync(working);
            else
                await working;
            return;
        }

        _leading = false;
        _logger.LogError("Leadership of {Namespace}/{Name} is lost; stopping.", _options.Namespace, _options.Name);
        // Counted from the deadline, however late this came to notice it.
        TimeSpan grace = (_options.LeaseDuration - _options.RenewDeadline) * 0.8;
        TimeSpan late = _time.GetElapsedTime(Volatile.Read(ref _leadsUntil));
        TimeSpan left = late > TimeSpan.Zero ? grace - late : grace;
        await Task.WhenAny(working, Task.Delay(left > TimeSpan.Zero ? left : TimeSpan.Zero, _time, CancellationToken.None));
        bool running = !working.IsCompleted;
        throw new LeadershipLostException(
            running
                ? $"Leadership of {_options.Namespace}/{_options.Name} was lost and the work did not stop within {grace.TotalSeconds:0.#} s."
                : $"Leadership of {_options.Namespace}/{_options.Name} was lost: the lease was not renewed within {_options.RenewDeadline.TotalSeconds:0.#} s, or somebody else has it.",
            running
        );
    }

    private static async Task StartAsync(Func<CancellationToken, Task> lead, CancellationToken ct)
    {
        // Whatever the work does before it first waits must not hold up the renewals.
        await Task.Yield();
        await lead(ct);
    }

    private async Task CancelAsync(CancellationTokenSource work)
    {
        // Not on the timer's own thread: what the work does on cancellation is its own affair.
        await Task.Yield();
        try
        {
            work.Cancel();
        }
        catch (ObjectDisposedException)
        {
            // It ended meanwhile.
        }
        catch (AggregateException e)
        {
            _logger.LogError(e, "Something failed when it was told that leadership is lost.");
        }
    }

    /// <summary>The lease was renewed by a request sent then.</summary>
    private void Extend(ITimer deadline, long sentAt)
    {
        TimeSpan left = _options.RenewDeadline - _time.GetElapsedTime(sentAt);
        Volatile.Write(ref _leadsUntil, sentAt + (long)(_options.RenewDeadline.TotalSeconds * _time.TimestampFrequency));
        deadline.Change(left > TimeSpan.Zero ? left : TimeSpan.Zero, Timeout.InfiniteTimeSpan);
    }

    private async Task<long> AcquireAsync(CancellationToken ct)
    {
        while (true)
        {
            try
            {
                long sentAt = _time.GetTimestamp();
                using var limit = new CancellationTokenSource(_options.RenewDeadline, _time);
                using var either = CancellationTokenSource.CreateLinkedTokenSource(ct, limit.Token);
                // An answer that took so long that the right to lead is over is no right to lead.
                V1Lease? acquired = await TryAcquireAsync(either.Token);
                Heard();
                if (acquired is { } mine && _time.GetElapsedTime(sentAt) < _options.RenewDeadline)
                {
                    _observed = mine;
                    return sentAt;
                }
            }
            catch (Exception e) when (IsTransient(e, ct))
            {
                Volatile.Write(ref _lastError, e.Cause());
                _logger.LogWarning(
                    "Cannot read or take the lease {Namespace}/{Name}: {Message}",
                    _options.Namespace,
                    _options.Name,
                    e.Cause()
                );
            }

            double part;
            lock (_random)
                part = _random.NextDouble();
            await Task.Delay(_options.RetryPeriod * (1 + (0.2 * part)), _time, ct);
        }
    }

    private async Task<V1Lease?> TryAcquireAsync(CancellationToken ct)
    {
        V1Lease? lease = await _client.GetAsync<V1Lease>(_options.Name, _options.Namespace, ct);
        if (lease is null)
        {
            return await _client.CreateAsync(
                new V1Lease
                {
                    Metadata = new V1ObjectMeta { Name = _options.Name, NamespaceProperty = _options.Namespace },
                    Spec = Spec(_time.GetUtcNow(), 0),
                },
                ct
            );
        }

        // Clocks of different machines are never compared: what counts is how long the record has stood still here. A record
        // with our own name that we did not write counts as somebody else's: an earlier run may still be alive.
        if (_observed?.Metadata.ResourceVersion != lease.Metadata.ResourceVersion)
        {
            _observed = lease;
            _observedAt = _time.GetTimestamp();
        }

        bool held = !string.IsNullOrEmpty(lease.Spec?.HolderIdentity);
        if (held && _time.GetElapsedTime(_observedAt) < Honoured(lease.Spec!))
            return null;
        return await _client.UpdateAsync(lease with { Spec = Spec(_time.GetUtcNow(), Next(lease.Spec?.LeaseTransitions)) }, ct);
    }

    /// <summary>
    /// How long a record that stands still is another's. One that no program of ours writes (68 years, or less than nothing) must not end
    /// the election, nor hand it to two.
    /// </summary>
    private TimeSpan Honoured(V1LeaseSpec record) =>
        record.LeaseDurationSeconds is > 0 and var seconds
            ? TimeSpan.FromSeconds(Math.Min(seconds, _options.LeaseDuration.TotalSeconds * MostLeases))
            : _options.LeaseDuration;

    /// <summary>The server refuses a number below zero (validation.ValidateLeaseSpec), which the one after the highest is.</summary>
    private static int Next(int? transitions) => transitions is >= 0 and < int.MaxValue ? transitions.Value + 1 : 1;

    private V1LeaseSpec Spec(DateTimeOffset acquired, int transitions) =>
        new()
        {
            HolderIdentity = _options.Identity,
            LeaseDurationSeconds = (int)Math.Ceiling(_options.LeaseDuration.TotalSeconds),
            AcquireTime = acquired.UtcDateTime,
            RenewTime = _time.GetUtcNow().UtcDateTime,
            LeaseTransitions = transitions,
        };

    /// <summary>Renews until told to end or until the lease is somebody else's.</summary>
    private async Task RenewAsync(ITimer deadline, CancellationTokenSource lost, CancellationToken ct)
    {
        while (!ct.IsCancellationRequested)
        {
            try
            {
                await Task.Delay(_options.RetryPeriod, _time, ct);
                long sentAt = _time.GetTimestamp();
                if (!await TryRenewAsync(ct))
                {
                    _logger.LogError(
                        "The lease {Namespace}/{Name} is now held by '{Holder}'.",
                        _options.Namespace,
                        _options.Name,
                        _observed?.Spec?.HolderIdentity
                    );
                    lost.Cancel();
                    return;
                }

                Heard();
                Extend(deadline, sentAt);
            }
            catch (Exception e) when (IsTransient(e, ct))
            {
                Volatile.Write(ref _lastError, e.Cause());
                _logger.LogWarning("Cannot renew the lease {Namespace}/{Name}: {Message}", _options.Namespace, _options.Name, e.Cause());
            }
            catch (OperationCanceledException)
            {
                return;
            }
        }
    }

    private async Task<bool> TryRenewAsync(CancellationToken ct)
    {
        V1Lease mine = _observed!;
        try
        {
            _observed = await _client.UpdateAsync(mine with { Spec = mine.Spec! with { RenewTime = _time.GetUtcNow().UtcDateTime } }, ct);
            return true;
        }
        catch (ApiException e) when (e.IsConflict || e.IsNotFound)
        {
            // Perhaps only our own earlier renewal, whose answer was lost; then it is renewed once more.
            V1Lease? now = await _client.GetAsync<V1Lease>(_options.Name, _options.Namespace, ct);
            if (now?.Spec?.HolderIdentity != _options.Identity || now.Spec.LeaseTransitions != mine.Spec!.LeaseTransitions)
            {
                _observed = now;
                return false;
            }

            // With all that we say of it, whatever somebody else has written into it.
            _observed = await _client.UpdateAsync(now with { Spec = mine.Spec with { RenewTime = _time.GetUtcNow().UtcDateTime } }, ct);
            return true;
        }
    }

    private async Task ReleaseAsync()
    {
        if (_observed is not { } mine)
            return;
        try
        {
            using var limit = new CancellationTokenSource(_options.RetryPeriod, _time);
            try
            {
                await _client.UpdateAsync(Released(mine), limit.Token);
            }
            catch (ApiException e) when (e.IsConflict)
            {
                // A renewal that was cancelled on its way may have arrived all the same.
                V1Lease? now = await _client.GetAsync<V1Lease>(_options.Name, _options.Namespace, limit.Token);
                if (now?.Spec?.HolderIdentity == _options.Identity)
                    await _client.UpdateAsync(Released(now), limit.Token);
            }

            _logger.LogInformation("Released the lease {Namespace}/{Name}.", _options.Namespace, _options.Name);
        }
        catch (Exception e) when (e is ApiException or HttpRequestException or OperationCanceledException)
        {
            _logger.LogWarning(
                "Could not release the lease {Namespace}/{Name}; the next leader waits {Seconds} s. {Message}",
                _options.Namespace,
                _options.Name,
                (int)_options.LeaseDuration.TotalSeconds,
                e.Cause()
            );
        }
    }

    private V1Lease Released(V1Lease mine) =>
        mine with
        {
            Spec = mine.Spec! with { HolderIdentity = "", LeaseDurationSeconds = 1, RenewTime = _time.GetUtcNow().UtcDateTime },
        };

    private static bool IsTransient(Exception e, CancellationToken ct) =>
        e is ApiException or HttpRequestException or KubeconfigException
        || (e is OperationCanceledException && !ct.IsCancellationRequested);

    private static Task Cancelled(CancellationToken ct)
    {
        var done = new TaskCompletionSource();
        ct.Register(() => done.TrySetResult());
        return done.Task;
    }

    private static async Task IgnoreCancellationAsync(Task working)
    {
        try
        {
            await working;
        }
        catch (OperationCanceledException)
        {
            // As asked.
        }
    }
}
