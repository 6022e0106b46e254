using PciOperator.Api;
using PciOperator.Kubernetes;

namespace PciOperator.Controller;

/// <summary>
/// The order in which claims are decided: the highest priority first; of equal ones the namespaces take turns, the one that was served longest
/// ago first; within a namespace the oldest claim. Decisions are made one at a time, by whoever is first of all that something may help now: the
/// queue of work brings claims to workers in any order, and a claim that is not first goes away until the line brings it back.
/// </summary>
/// <remarks>
/// Nobody is held up by who can't be served: a claim leaves the line as soon as it was looked at, whatever came of it. Each step costs the
/// logarithm of the claims in the line.
/// </remarks>
internal sealed class WaitingLine(Action<EntityKey> bring)
{
    private readonly Lock _lock = new();
    private readonly Dictionary<string, Entry> _entries = [];
    private readonly SortedDictionary<int, Level> _levels = new(Comparer<int>.Create((a, b) => b.CompareTo(a)));
    private readonly Dictionary<string, long> _served = new(StringComparer.Ordinal);
    private readonly Dictionary<string, int> _resting = [];
    private readonly SortedDictionary<int, int> _restingByPriority = new(Comparer<int>.Create((a, b) => b.CompareTo(a)));
    private readonly HashSet<string> _yielded = [];
    private string? _deciding;
    private long _turns;

    /// <summary>Something may help a claim that waits: it has its place from now on, wherever it is in the queue of work.</summary>
    public void Wake(PassthroughClaim claim, int priority)
    {
        lock (_lock)
            Enter(claim, priority).IsLookedAt = false;
    }

    /// <summary>A worker begins to look at a claim.</summary>
    public void Begin(string uid)
    {
        lock (_lock)
        {
            if (_entries.TryGetValue(uid, out Entry? entry))
                (entry.IsLookedAt, entry.Stands) = (true, false);
        }
    }

    /// <summary>The worker is through: whoever neither stands in line nor was woken meanwhile leaves it.</summary>
    public void End(string uid)
    {
        lock (_lock)
        {
            if (_entries.TryGetValue(uid, out Entry? entry) && entry is { IsLookedAt: true, Stands: false })
                Remove(entry);
            else
                return;
        }

        BringFirst();
    }

    /// <summary>
    /// Whether a claim that comes anew has to wait a moment, once: something became free, and those who wait for it already, and come before this
    /// one, have not been brought yet.
    /// </summary>
    /// <param name="claim">The claim.</param>
    /// <param name="priority">Its priority.</param>
    /// <param name="somethingIsNew">Whether it is still to be found out whom a change may help.</param>
    public bool MustYield(PassthroughClaim claim, int priority, bool somethingIsNew)
    {
        string uid = claim.Metadata.Uid!;
        lock (_lock)
        {
            return somethingIsNew
                && !_entries.ContainsKey(uid)
                && _restingByPriority.Keys.FirstOrDefault(int.MinValue) >= priority
                && _restingByPriority.Count > 0
                && _yielded.Add(uid);
        }
    }

    /// <summary>Whether it is a claim's turn to be decided; else it stands in line and is brought back. After a turn comes <see cref="Leave"/>.</summary>
    public bool TakeTurn(PassthroughClaim claim, int priority)
    {
        string uid = claim.Metadata.Uid!;
        lock (_lock)
        {
            Entry entry = Enter(claim, priority);
            (entry.IsLookedAt, entry.Stands) = (true, true);
            if (_deciding is null && First() is { } first && first.Uid == uid)
            {
                _deciding = uid;
                return true;
            }
        }

        BringFirst();
        return false;
    }

    /// <summary>A claim was decided: it leaves the line, and the next one is brought.</summary>
    /// <param name="claim">The claim.</param>
    /// <param name="served">Whether it gets devices: then its namespace comes after all others.</param>
    public void Leave(PassthroughClaim claim, bool served)
    {
        string uid = claim.Metadata.Uid!;
        lock (_lock)
        {
            if (_deciding == uid)
                _deciding = null;
            if (_entries.TryGetValue(uid, out Entry? entry))
                Remove(entry);
            if (served)
                Serve(claim.Metadata.NamespaceProperty);
        }

        BringFirst();
    }

    /// <summary>Nothing serves a claim now: it waits until something changes.</summary>
    public void Rest(string uid, int priority)
    {
        lock (_lock)
        {
            Unrest(uid);
            _resting[uid] = priority;
            _restingByPriority[priority] = _restingByPriority.GetValueOrDefault(priority) + 1;
        }
    }

    /// <summary>A claim is gone, or has its devices.</summary>
    public void Forget(string uid)
    {
        lock (_lock)
        {
            Unrest(uid);
            _yielded.Remove(uid);
            if (_deciding == uid || !_entries.TryGetValue(uid, out Entry? entry))
                return;
            Remove(entry);
        }

        BringFirst();
    }

    private void BringFirst()
    {
        EntityKey? key;
        lock (_lock)
            key = _deciding is null ? First()?.Key : null;
        if (key is { } first)
            bring(first);
    }

    private void Unrest(string uid)
    {
        if (!_resting.Remove(uid, out int priority))
            return;
        if (--_restingByPriority[priority] == 0)
            _restingByPriority.Remove(priority);
    }

    private Entry? First() => _levels.Count == 0 ? null : _levels.First().Value.First();

    private Entry Enter(PassthroughClaim claim, int priority)
    {
        string uid = claim.Metadata.Uid!;
        if (_entries.TryGetValue(uid, out Entry? known))
        {
            if (known.Priority == priority)
                return known;
            Remove(known);
        }

        string ns = claim.Metadata.NamespaceProperty;
        var entry = new Entry(uid, EntityKey.Of(claim), ns, priority, claim.Metadata.CreationTimestamp?.Ticks ?? 0);
        _entries[uid] = entry;
        if (!_levels.TryGetValue(priority, out Level? level))
            _levels[priority] = level = new Level();
        level.Add(entry, _served.GetValueOrDefault(ns));
        return entry;
    }

    private void Remove(Entry entry)
    {
        _entries.Remove(entry.Uid);
        _yielded.Remove(entry.Uid);
        Level level = _levels[entry.Priority];
        level.Remove(entry, _served.GetValueOrDefault(entry.Namespace));
        if (level.IsEmpty)
            _levels.Remove(entry.Priority);
    }

    private void Serve(string ns)
    {
        const int mostKept = 16384;
        long before = _served.GetValueOrDefault(ns);
        if (_served.Count >= mostKept && !_served.ContainsKey(ns))
        {
            // Who was served longest ago is as one that never was.
            string longest = _served.MinBy(s => s.Value).Key;
            Move(longest, _served[longest], 0);
            _served.Remove(longest);
        }

        _served[ns] = ++_turns;
        Move(ns, before, _turns);
    }

    private void Move(string ns, long before, long now)
    {
        foreach (Level level in _levels.Values)
            level.Move(ns, before, now);
    }

    private sealed class Entry(string uid, EntityKey key, string ns, int priority, long made)
    {
        public string Uid => uid;
        public EntityKey Key => key;
        public string Namespace => ns;
        public int Priority => priority;
        public (long Made, string Uid) Place => (made, uid);

        /// <summary>False: something has woken it since it was last looked at.</summary>
        public bool IsLookedAt { get; set; }

        /// <summary>It came, and it was not its turn.</summary>
        public bool Stands { get; set; }
    }

    /// <summary>The claims of one priority.</summary>
    private sealed class Level
    {
        private readonly Dictionary<string, SortedDictionary<(long, string), Entry>> _byNamespace = new(StringComparer.Ordinal);
        private readonly SortedSet<(long Served, string Namespace)> _order = [];

        public bool IsEmpty => _order.Count == 0;

        public Entry? First() => _order.Count == 0 ? null : _byNamespace[_order.Min.Namespace].First().Value;

        public void Add(Entry entry, long served)
        {
            if (!_byNamespace.TryGetValue(entry.Namespace, out SortedDictionary<(long, string), Entry>? queue))
            {
                _byNamespace[entry.Namespace] = queue = [];
                _order.Add((served, entry.Namespace));
            }

            queue.Add(entry.Place, entry);
        }

        public void Remove(Entry entry, long served)
        {
            SortedDictionary<(long, string), Entry> queue = _byNamespace[entry.Namespace];
            queue.Remove(entry.Place);
            if (queue.Count > 0)
                return;
            _byNamespace.Remove(entry.Namespace);
            _order.Remove((served, entry.Namespace));
        }

        public void Move(string ns, long before, long now)
        {
            if (_order.Remove((before, ns)))
                _order.Add((now, ns));
        }
    }
}
