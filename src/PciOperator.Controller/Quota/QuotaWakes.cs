using PciOperator.Api;

namespace PciOperator.Controller;

/// <summary>Brings back claims that a quota kept waiting when there is room: of each namespace those that there is room for, and no others.</summary>
internal sealed class QuotaWakes(
    ControllerCaches caches,
    QuotaLedger ledger,
    ClaimPriorities priorities,
    Action<IReadOnlyList<PassthroughClaim>> wake
)
{
    private readonly Lock _lock = new();
    private HashSet<string> _namespaces = [];

    /// <summary>Something asked for <see cref="Run"/>.</summary>
    public event Action? Asked;

    /// <summary>There may be room in a namespace.</summary>
    public void Add(string ns)
    {
        lock (_lock)
            _namespaces.Add(ns);
        Asked?.Invoke();
    }

    /// <summary>There may be room in every namespace.</summary>
    public void AddAll()
    {
        foreach (
            string ns in caches
                .Claims.ByIndex(ControllerCaches.ByPending, "true")
                .Where(Waits)
                .Select(c => c.Metadata.NamespaceProperty)
                .Distinct()
        )
        {
            Add(ns);
        }
    }

    /// <summary>Brings them back.</summary>
    public void Run()
    {
        HashSet<string> namespaces;
        lock (_lock)
            (namespaces, _namespaces) = (_namespaces, []);
        foreach (string ns in namespaces)
        {
            var waiting = caches.Claims.ByIndex(ControllerCaches.ByPendingNamespace, ns).Where(Waits).ToList();
            if (waiting.Count == 0)
                continue;
            wake(
                ledger.ThatFit(
                    ns,
                    waiting
                        .OrderByDescending(c => priorities.Of(c) ?? int.MinValue)
                        .ThenBy(c => c.Metadata.CreationTimestamp)
                        .ThenBy(c => c.Metadata.Uid, StringComparer.Ordinal)
                )
            );
        }
    }

    /// <summary>Whether a quota keeps a claim waiting.</summary>
    public static bool Waits(PassthroughClaim claim) => claim.Status.Reason(Conditions.Scheduled) == QuotaLedger.Exceeded;
}
