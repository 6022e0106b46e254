using System.Collections.Immutable;

namespace PciOperator.Sandbox.ApiServer.Storage;

/// <summary>
/// The objects of one resource, its recent changes and who watches them. Reading needs no lock; changing happens under
/// the store's. What was before <c>since</c> can't be replayed.
/// </summary>
internal sealed class Table(string name, int historyLength, long since)
{
    private const long HistoryBytes = 256L << 20;

    private readonly LinkedList<Change> _history = new();
    private readonly Dictionary<long, ImmutableSortedDictionary<string, StoredObject>> _pages = [];
    private readonly HashSet<Subscription> _watchAll = [];
    private readonly Dictionary<string, HashSet<Subscription>> _watchOne = new(StringComparer.Ordinal);
    private volatile ImmutableSortedDictionary<string, StoredObject> _objects = ImmutableSortedDictionary.Create<string, StoredObject>(
        StringComparer.Ordinal
    );
    private long _historyBytes;

    public string Name { get; } = name;

    public ImmutableSortedDictionary<string, StoredObject> Objects => _objects;

    /// <summary>The newest change that can't be replayed any more.</summary>
    public long CompactedAt { get; private set; } = since;

    public StoredObject? Get(string ns, string objectName) => _objects.GetValueOrDefault(StoredObject.KeyOf(ns, objectName));

    public IEnumerable<StoredObject> In(string ns) => _objects.Values.Where(o => o.Namespace == ns);

    /// <summary>Takes a change in: objects, history, watches.</summary>
    public void Record(Change change)
    {
        string key = change.Subject.Key;
        _objects = change.New is { } now ? _objects.SetItem(key, now) : _objects.Remove(key);
        _history.AddLast(change);
        _historyBytes += Size(change);
        while (_history.Count > historyLength || (_historyBytes > HistoryBytes && _history.Count > 1))
            DropOldest();

        foreach (Subscription watch in _watchAll)
            watch.Offer(change);
        if (_watchOne.TryGetValue(change.Subject.Name, out HashSet<Subscription>? named))
        {
            foreach (Subscription watch in named)
                watch.Offer(change);
        }
    }

    /// <summary>Forgets all changes up to <paramref name="resourceVersion"/>, the newest one there is.</summary>
    public void Compact(long resourceVersion)
    {
        while (_history.Count > 0)
            DropOldest();
        CompactedAt = resourceVersion;
        DropPages();
    }

    public IEnumerable<Change> Since(long resourceVersion)
    {
        // Watches mostly resume near the end.
        LinkedListNode<Change>? node = _history.Last;
        if (node is null || node.Value.ResourceVersion <= resourceVersion)
            yield break;
        while (node.Previous is { } earlier && earlier.Value.ResourceVersion > resourceVersion)
            node = earlier;
        for (; node is not null; node = node.Next)
            yield return node.Value;
    }

    public void Add(Subscription watch)
    {
        if (watch.OnlyName is null)
        {
            _watchAll.Add(watch);
            return;
        }

        if (!_watchOne.TryGetValue(watch.OnlyName, out HashSet<Subscription>? named))
            _watchOne[watch.OnlyName] = named = [];
        named.Add(watch);
    }

    public void Remove(Subscription watch)
    {
        if (watch.OnlyName is null)
        {
            _watchAll.Remove(watch);
        }
        else if (_watchOne.TryGetValue(watch.OnlyName, out HashSet<Subscription>? named) && named.Remove(watch) && named.Count == 0)
        {
            _watchOne.Remove(watch.OnlyName);
        }
    }

    public IEnumerable<Subscription> Watches => _watchAll.Concat(_watchOne.Values.SelectMany(w => w));

    /// <summary>Keeps the objects as they are for the pages of a list that follow.</summary>
    public void KeepPage(long resourceVersion, ImmutableSortedDictionary<string, StoredObject> objects) =>
        _pages[resourceVersion] = objects;

    /// <summary>The objects as they were at a page's resourceVersion; null when that is too old.</summary>
    public ImmutableSortedDictionary<string, StoredObject>? Page(long resourceVersion) => _pages.GetValueOrDefault(resourceVersion);

    private void DropOldest()
    {
        Change oldest = _history.First!.Value;
        _history.RemoveFirst();
        _historyBytes -= Size(oldest);
        CompactedAt = oldest.ResourceVersion;
        DropPages();
    }

    private void DropPages()
    {
        if (_pages.Count == 0)
            return;
        foreach (long expired in _pages.Keys.Where(rv => rv < CompactedAt).ToList())
            _pages.Remove(expired);
    }

    // What a change holds on to: about as much as its JSON when that has been written, else a guess.
    private static long Size(Change change) => 4096 + change.Subject.Value.Count * 64;
}
