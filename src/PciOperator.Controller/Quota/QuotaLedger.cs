using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Kubernetes;
using PciOperator.Kubernetes.Schema;
using Prometheus;

namespace PciOperator.Controller;

/// <summary>
/// Keeps PciQuotas. Assignments are written node by node, and a quota is about all nodes: so what is about to be given away is first reserved
/// in the quota's status, by a write that holds only for the status that it was worked out from. What counts is the assignments; a
/// reservation counts until its assignment is to be seen.
/// </summary>
/// <remarks>
/// Of two controllers at once, each reads PciNodes a moment late. So a reservation goes only when its assignment is seen, and the status
/// then says how far PciNodes have to be read (<see cref="PciQuotaStatus.AssignmentsSeen"/>): who has not read so far waits. A reservation is dropped
/// by who made it; another's only when that one can no longer write the assignment: when its term as leader is over, or, without the election,
/// when it has stood for longer (<see cref="AbandonedAfter"/>) than a write may follow it (<see cref="WriteWithin"/>) and take.
/// </remarks>
[EntityRbac(PciOperatorApi.Group, "pciquotas", "get,list,watch")]
[EntityRbac(PciOperatorApi.Group, "pciquotas/status", "update")]
internal sealed class QuotaLedger
{
    /// <summary>The reason of a claim that a quota keeps waiting.</summary>
    public const string Exceeded = "QuotaExceeded";

    /// <summary>An assignment is written within this time of its reservation, or not at all; the write itself has <see cref="PciNodeWriter.Patience"/>.</summary>
    public static readonly TimeSpan WriteWithin = TimeSpan.FromSeconds(5);

    /// <summary>After this time nobody can be about to write the assignment of a reservation any more.</summary>
    public static readonly TimeSpan AbandonedAfter = WriteWithin + PciNodeWriter.Patience + TimeSpan.FromSeconds(10);

    private const int MostReservations = 512;
    private const int MostShown = 128;
    private const int MostNamed = 8;

    private readonly IEntityClient _client;
    private readonly ControllerCaches _caches;
    private readonly QuotaUsage _usage;
    private readonly TimeProvider _time;
    private readonly bool _alone;
    private readonly string _me = Guid.NewGuid().ToString("N");
    private readonly Counter _writes;
    private readonly Counter _answers;
    private readonly Lock _lock = new();
    private readonly Dictionary<string, List<Ask>> _pending = [];

    // Claims whose assignment this controller is writing (null), or may have written, since a moment.
    private readonly ConcurrentDictionary<string, long?> _underWay = new();

    // Since when others' reservations are seen.
    private readonly ConcurrentDictionary<(string? Quota, string ClaimUid, string By), long> _seenSince = new();

    // Up to which version of PciNodes this controller has told a quota itself: what it wrote it knows.
    private readonly ConcurrentDictionary<string, ulong> _told = new();

    /// <summary>A ledger over the caches.</summary>
    public QuotaLedger(
        IEntityClient client,
        ControllerCaches caches,
        ControllerOptions options,
        TimeProvider time,
        CollectorRegistry metrics
    )
    {
        (_client, _caches, _usage, _time, _alone) = (client, caches, new QuotaUsage(caches), time, options.LeaderElect);
        MetricFactory factory = Metrics.WithCustomRegistry(metrics);
        _writes = factory.CreateCounter("pcioperator_quota_writes_total", "Writes to the status of PciQuotas by outcome.", ["outcome"]);
        _answers = factory.CreateCounter(
            "pcioperator_quota_answers_total",
            "Answers of quotas to placements: granted, refused or busy.",
            ["answer"]
        );
    }

    /// <summary>A reservation came to nothing: there may be room in this namespace.</summary>
    public event Action<string>? Freed;

    /// <summary>Whether a quota might keep these claims waiting, as far as the caches know; asks nobody.</summary>
    public QuotaPass Look(IReadOnlyList<PassthroughClaim> claims)
    {
        string ns = claims[0].Metadata.NamespaceProperty;
        if (IsUnknown(ns))
            return new QuotaPass(claims, IsBusy: true);
        string? node = null;
        foreach (PciQuota quota in HoldingFor(ns))
        {
            List<QuotaReservation> kept = Kept(quota, out _);
            if (WhyNot(quota, ns, _usage.Of(ns, kept), claims) is { } refusal)
                return new QuotaPass(claims, refusal);
            foreach (QuotaReservation other in kept.Where(r => claims.Any(c => c.Metadata.Uid == r.ClaimUid)))
            {
                if (node is not null && node != other.NodeName)
                    return new QuotaPass(claims, IsBusy: true);
                node = other.NodeName;
            }
        }

        return new QuotaPass(claims, Node: node);
    }

    /// <summary>Reserves what claims ask for, in each quota that holds for their namespace, before their devices are given away.</summary>
    public async Task<QuotaPass> ReserveAsync(IReadOnlyList<PassthroughClaim> claims, string node, CancellationToken ct)
    {
        string ns = claims[0].Metadata.NamespaceProperty;
        if (IsUnknown(ns))
            return new QuotaPass(claims, IsBusy: true);
        long? reserved = null;
        IReadOnlyList<PciQuota> quotas = HoldingFor(ns);
        if (quotas.Count > 0)
            Begin(claims);
        try
        {
            foreach (PciQuota quota in quotas)
            {
                QuotaPass answer = await AskAsync(quota.Metadata.Name!, new Ask(claims, node), ct);
                _answers
                    .WithLabels(
                        answer.IsBusy ? "busy"
                        : answer.Refusal is null ? "granted"
                        : "refused"
                    )
                    .Inc();
                if (!answer.IsGranted)
                {
                    End(claims, reserved is not null);
                    return answer;
                }

                reserved ??= answer.ReservedAt;
            }
        }
        catch
        {
            End(claims, freed: true);
            throw;
        }

        return new QuotaPass(claims) { ReservedAt = reserved };
    }

    /// <summary>Whether the assignment of a reservation may still be written.</summary>
    public bool IsValid(QuotaPass pass) => pass.ReservedAt is not { } since || _time.GetElapsedTime(since) <= WriteWithin;

    /// <summary>The assignment was written, or was not, or nobody knows.</summary>
    public void Settle(QuotaPass pass, bool placed, bool uncertain)
    {
        if (pass.ReservedAt is null)
            return;
        if (!uncertain)
        {
            End(pass.Claims, freed: !placed);
            return;
        }

        long now = _time.GetTimestamp();
        foreach (PassthroughClaim claim in pass.Claims)
            _underWay[claim.Metadata.Uid!] = now;
    }

    /// <summary>Brings a quota's status up to date.</summary>
    /// <returns>How soon again without a change; null: not.</returns>
    public async Task<TimeSpan?> SyncAsync(string quota, CancellationToken ct)
    {
        QuotaPass answer = await AskAsync(quota, new Ask([], ""), ct);
        return answer.IsBusy ? TimeSpan.FromSeconds(1)
            : _caches.Quotas.Get(quota)?.Status?.Reservations is { Count: > 0 } ? AbandonedAfter
            : null;
    }

    /// <summary>Of claims that wait, in the order in which they are served, those that the quotas have room for now.</summary>
    public IReadOnlyList<PassthroughClaim> ThatFit(string ns, IEnumerable<PassthroughClaim> waiting)
    {
        var books = HoldingFor(ns).Select(q => (Quota: q, Book: _usage.Of(ns, Kept(q, out _)))).ToList();
        var fit = new List<PassthroughClaim>();
        foreach (PassthroughClaim claim in waiting)
        {
            (string Uid, DeviceCounts Devices) asked = (claim.Metadata.Uid!, QuotaCounts.AskedBy(claim));
            if (books.Any(b => b.Book.WhyNot(QuotaCounts.LimitsOf(b.Quota), [asked]) is not null))
                continue;
            books.ForEach(b => b.Book.Add(asked.Uid, asked.Devices));
            fit.Add(claim);
        }

        return fit;
    }

    /// <summary>The quotas that hold for a namespace, in order of name.</summary>
    private IReadOnlyList<PciQuota> HoldingFor(string ns)
    {
        IReadOnlyCollection<PciQuota> all = _caches.Quotas.List();
        if (all.Count == 0)
            return [];
        IDictionary<string, string>? labels = _caches.Namespaces.Get(ns)?.Metadata.Labels;
        return [.. all.Where(q => q.Spec.HoldsFor(ns, labels)).OrderBy(q => q.Metadata.Name, StringComparer.Ordinal)];
    }

    /// <summary>Whether nobody can say yet which quotas hold for a namespace: its labels are not known.</summary>
    private bool IsUnknown(string ns) =>
        _caches.Namespaces.Get(ns) is null && _caches.Quotas.List().Any(q => q.Spec.NamespaceSelector is not null);

    private void Begin(IReadOnlyList<PassthroughClaim> claims)
    {
        foreach (PassthroughClaim claim in claims)
            _underWay[claim.Metadata.Uid!] = null;
    }

    private void End(IReadOnlyList<PassthroughClaim> claims, bool freed)
    {
        foreach (PassthroughClaim claim in claims)
            _underWay.TryRemove(claim.Metadata.Uid!, out _);
        if (freed)
            Freed?.Invoke(claims[0].Metadata.NamespaceProperty);
    }

    private string? WhyNot(PciQuota quota, string ns, QuotaBook book, IReadOnlyList<PassthroughClaim> claims)
    {
        QuotaExcess? excess = book.WhyNot(QuotaCounts.LimitsOf(quota), claims.Select(c => (c.Metadata.Uid!, QuotaCounts.AskedBy(c))));
        if (excess is null)
            return null;
        string names = string.Join(", ", claims.Select(c => c.Metadata.Name).Order(StringComparer.Ordinal));
        string who = claims.Count == 1 ? $"claim {names} asks" : $"the claims {names}, which belong together, ask";
        return $"namespace {ns} has {QuotaCounts.Text(excess)}, and {who} for {excess.Asked}{Holders(book, excess)}";
    }

    private string Holders(QuotaBook book, QuotaExcess excess)
    {
        var held = book.Of(excess.Limit.Alias)
            .Select(h => (Name: _caches.Claims.ByIndex(ControllerCaches.ByUid, h.ClaimUid).FirstOrDefault()?.Metadata.Name, h.Devices))
            .OrderBy(h => h.Name is null)
            .ThenBy(h => h.Name, StringComparer.Ordinal)
            .ToList();
        if (held.Count == 0)
            return "";
        IEnumerable<string> named = held.Take(MostNamed).Select(h => $"{h.Name ?? "a claim that is gone"} ({h.Devices})");
        return $"; held by {string.Join(", ", named)}{(held.Count > MostNamed ? $" and {held.Count - MostNamed} more" : "")}";
    }

    /// <summary>The reservations that count still; the others have become assignments, up to the version of PciNodes that is given, or nothing.</summary>
    private List<QuotaReservation> Kept(PciQuota quota, out ulong seen)
    {
        seen = Version(quota.Status?.AssignmentsSeen);
        var kept = new List<QuotaReservation>();
        foreach (QuotaReservation reservation in quota.Status?.Reservations ?? [])
        {
            PciNode? assigned = _caches
                .PciNodes.ByIndex(ControllerCaches.ByAssignedClaim, reservation.ClaimUid)
                .FirstOrDefault(n => n.Metadata.Name == reservation.NodeName);
            if (assigned is not null)
                seen = Math.Max(seen, Version(assigned.Metadata.ResourceVersion));
            else if (!IsOver(quota, reservation))
                kept.Add(reservation);
        }

        return kept;
    }

    /// <summary>Whether nobody can be about to write the assignment of a reservation.</summary>
    private bool IsOver(PciQuota quota, QuotaReservation reservation)
    {
        if (reservation.By == _me)
        {
            return !_underWay.TryGetValue(reservation.ClaimUid, out long? since)
                || (since is { } uncertain && _time.GetElapsedTime(uncertain) >= AbandonedAfter);
        }

        // Who led before has stopped, or this one would not lead.
        return _alone
            || _time.GetElapsedTime(
                _seenSince.GetOrAdd((quota.Metadata.Uid, reservation.ClaimUid, reservation.By), _ => _time.GetTimestamp())
            ) >= AbandonedAfter;
    }

    /// <summary>Hands something to the one writer of a quota: what comes while a write is under way is its next write.</summary>
    private Task<QuotaPass> AskAsync(string quota, Ask ask, CancellationToken ct)
    {
        lock (_lock)
        {
            if (_pending.TryGetValue(quota, out List<Ask>? queue))
            {
                queue.Add(ask);
                return ask.Done.Task.WaitAsync(ct);
            }

            _pending[quota] = [ask];
        }

        _ = DrainAsync(quota, ct);
        return ask.Done.Task.WaitAsync(ct);
    }

    private async Task DrainAsync(string quota, CancellationToken ct)
    {
        while (true)
        {
            List<Ask> batch;
            lock (_lock)
            {
                batch = _pending[quota];
                if (batch.Count == 0)
                {
                    _pending.Remove(quota);
                    return;
                }

                _pending[quota] = [];
            }

            try
            {
                await WriteAsync(quota, batch, ct);
            }
#pragma warning disable CA1031 // whatever it was, it is the callers' to hear
            catch (Exception error)
#pragma warning restore CA1031
            {
                batch.ForEach(a => a.Done.TrySetException(error));
            }

            // The next write is no part of the span in whose course the first was asked for.
            Activity.Current = null;
        }
    }

    private async Task WriteAsync(string name, List<Ask> batch, CancellationToken ct)
    {
        const int attempts = 8;
        PciQuota? quota = _caches.Quotas.Get(name);
        for (int attempt = 1; quota is not null && attempt <= attempts; attempt++)
        {
            ulong read = _caches.PciNodes.ToldUpTo;
            ulong toRead = Version(quota.Status?.AssignmentsSeen);
            if (read < toRead && _told.GetValueOrDefault(quota.Metadata.Uid!) != toRead)
                break; // an assignment that counts is not to be seen here yet
            (PciQuotaStatus status, List<(Ask Ask, QuotaPass Answer)> answers) = Draw(quota, batch);
            if (Same(quota.Status, status))
            {
                answers.ForEach(a => a.Ask.Done.TrySetResult(a.Answer));
                return;
            }

            long began = _time.GetTimestamp();
            try
            {
                PciQuota written = await _client.UpdateStatusAsync(quota with { Status = status }, ct);
                _writes.WithLabels("written").Inc();
                if (Version(written.Metadata.ResourceVersion) < read)
                    break; // the server was set back: what is read of PciNodes is from another past
                _caches.Quotas.Observe(written);
                _told[quota.Metadata.Uid!] = Version(status.AssignmentsSeen);
                answers.ForEach(a => a.Ask.Done.TrySetResult(a.Answer.IsGranted ? a.Answer with { ReservedAt = began } : a.Answer));
                return;
            }
            catch (ApiException refused) when (refused.IsConflict || refused.IsNotFound)
            {
                _writes.WithLabels("conflict").Inc();
                quota = await _client.GetAsync<PciQuota>(name, ct: ct);
                if (quota is not null)
                    _caches.Quotas.Observe(quota);
            }
        }

        // A quota that is gone holds for nobody.
        batch.ForEach(a => a.Done.TrySetResult(new QuotaPass(a.Claims, IsBusy: quota is not null)));
    }

    /// <summary>The status with all that is granted reserved in it, and the answers.</summary>
    private (PciQuotaStatus Status, List<(Ask Ask, QuotaPass Answer)> Answers) Draw(PciQuota quota, List<Ask> batch)
    {
        List<QuotaReservation> kept = Kept(quota, out ulong seen);
        var books = new Dictionary<string, QuotaBook>();
        var answers = new List<(Ask, QuotaPass)>();
        foreach (Ask ask in batch)
            answers.Add((ask, ask.Claims.Count == 0 ? new QuotaPass([]) : Answer(quota, ask, kept, books)));

        PciQuotaStatus status = (quota.Status ?? new PciQuotaStatus()) with
        {
            Reservations = kept.Count == 0 ? null : kept,
            AssignmentsSeen = seen == 0 ? null : seen.ToString(CultureInfo.InvariantCulture),
        };
        return (batch.Any(a => a.Claims.Count == 0) ? Shown(quota, status, kept) : status, answers);
    }

    private QuotaPass Answer(PciQuota quota, Ask ask, List<QuotaReservation> kept, Dictionary<string, QuotaBook> books)
    {
        string ns = ask.Claims[0].Metadata.NamespaceProperty;
        if (!books.TryGetValue(ns, out QuotaBook? book))
            books[ns] = book = _usage.Of(ns, kept);
        if (WhyNot(quota, ns, book, ask.Claims) is { } refusal)
            return new QuotaPass(ask.Claims, refusal);
        var uids = ask.Claims.Select(c => c.Metadata.Uid!).ToHashSet();
        // Another controller was quicker: a second assignment would be withdrawn again, and would be too many until then.
        if (uids.Any(uid => _caches.PciNodes.ByIndex(ControllerCaches.ByAssignedClaim, uid).Count > 0))
            return new QuotaPass(ask.Claims, IsBusy: true);
        if (kept.Any(r => uids.Contains(r.ClaimUid) && r.NodeName != ask.Node) || kept.Count + ask.Claims.Count > MostReservations)
            return new QuotaPass(ask.Claims, IsBusy: true);
        foreach (PassthroughClaim claim in ask.Claims)
        {
            string uid = claim.Metadata.Uid!;
            DeviceCounts devices = QuotaCounts.AskedBy(claim);
            book.Add(uid, devices);
            if (!kept.Any(r => r.ClaimUid == uid && r.By == _me))
            {
                kept.Add(
                    new QuotaReservation
                    {
                        ClaimUid = uid,
                        By = _me,
                        Namespace = ns,
                        NodeName = ask.Node,
                        Devices = QuotaUsage.Text(devices),
                    }
                );
            }
        }

        // Also where it is reserved already: the write that follows has its time from now on.
        return new QuotaPass(ask.Claims) { ReservedAt = _time.GetTimestamp() };
    }

    /// <summary>The status with what people look at.</summary>
    private PciQuotaStatus Shown(PciQuota quota, PciQuotaStatus status, List<QuotaReservation> kept)
    {
        var limits = QuotaCounts.LimitsOf(quota).ToList();
        var used = _usage
            .Namespaces()
            .Union(kept.Select(r => r.Namespace))
            .Where(ns => quota.Spec.HoldsFor(ns, _caches.Namespaces.Get(ns)?.Metadata.Labels))
            .Select(ns => (Namespace: ns, _usage.Of(ns, kept).Used))
            .Where(u => limits.Any(l => u.Used.Of(l.Alias) > 0))
            .OrderByDescending(u => limits.Max(l => u.Used.Of(l.Alias) / Math.Max(1.0, l.Devices)))
            .ThenBy(u => u.Namespace, StringComparer.Ordinal)
            .ToList();
        return status with
        {
            ObservedGeneration = quota.Metadata.Generation,
            Summary = Fitted.Text(string.Join(',', limits.Select(l => $"{l.Alias}:{l.Devices}")), 2048),
            Namespaces = _caches.Namespaces.List().Count(n => quota.Spec.HoldsFor(n.Metadata.Name!, n.Metadata.Labels)),
            Full = used.Count(u => limits.Any(l => u.Used.Of(l.Alias) >= l.Devices && l.Devices > 0)),
            Used =
                used.Count == 0
                    ? null
                    :
                    [
                        .. used.Take(MostShown)
                            .Select(u => new QuotaUse
                            {
                                Namespace = u.Namespace,
                                Limits =
                                [
                                    .. limits.Select(l => new QuotaUseOfLimit
                                    {
                                        Alias = l.Alias,
                                        Used = u.Used.Of(l.Alias),
                                        Limit = l.Devices,
                                    }),
                                ],
                            }),
                    ],
        };
    }

    private static bool Same(PciQuotaStatus? one, PciQuotaStatus other) =>
        one is not null
        && JsonSerializer
            .SerializeToUtf8Bytes(one, PciOperatorJsonContext.Default.PciQuotaStatus)
            .AsSpan()
            .SequenceEqual(JsonSerializer.SerializeToUtf8Bytes(other, PciOperatorJsonContext.Default.PciQuotaStatus));

    private static ulong Version(string? text) =>
        ulong.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out ulong version) ? version : 0;

    /// <summary>What somebody wants of a quota; without claims: its status up to date.</summary>
    private sealed record Ask(IReadOnlyList<PassthroughClaim> Claims, string Node)
    {
        public TaskCompletionSource<QuotaPass> Done { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
