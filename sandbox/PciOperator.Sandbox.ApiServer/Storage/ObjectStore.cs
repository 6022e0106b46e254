using System.Collections.Concurrent;
using System.Collections.Immutable;
using System.Globalization;
using System.Text.Json.Nodes;

namespace PciOperator.Sandbox.ApiServer.Storage;

/// <summary>All objects in memory, with one resourceVersion that counts every change.</summary>
internal sealed class ObjectStore(int historyLength)
{
    private readonly int _historyLength = historyLength;
    private readonly Lock _lock = new();
    private readonly ConcurrentDictionary<string, Table> _tables = new(StringComparer.Ordinal);
    private long _resourceVersion = 1;

    /// <summary>The resourceVersion of the newest change.</summary>
    public long ResourceVersion => Interlocked.Read(ref _resourceVersion);

    /// <summary>Called after each change, outside the lock.</summary>
    public event Action<Table, Change>? Changed;

    public IEnumerable<Table> Tables => _tables.Values;

    public Table Table(string name) =>
        _tables.GetOrAdd(name, static (key, store) => new Table(key, store._historyLength, store.ResourceVersion), this);

    /// <summary>The objects of a table and the resourceVersion at which they are so.</summary>
    public (ImmutableSortedDictionary<string, StoredObject> Objects, long ResourceVersion) Snapshot(Table table)
    {
        lock (_lock)
            return (table.Objects, _resourceVersion);
    }

    /// <summary>Stores a new object; null when the name is taken. <paramref name="value"/> becomes the store's.</summary>
    public StoredObject? Create(Table table, string ns, string name, JsonObject value)
    {
        Change change;
        lock (_lock)
        {
            if (table.Get(ns, name) is not null)
                return null;
            change = new Change(_resourceVersion + 1, null, Stamp(ns, name, value), null);
            Commit(table, change);
        }

        Changed?.Invoke(table, change);
        return change.New;
    }

    /// <summary>Replaces <paramref name="current"/>; null when it is not the current version any more.</summary>
    public StoredObject? Replace(Table table, StoredObject current, JsonObject value)
    {
        Change change;
        lock (_lock)
        {
            if (table.Get(current.Namespace, current.Name) != current)
                return null;
            change = new Change(_resourceVersion + 1, current, Stamp(current.Namespace, current.Name, value), null);
            Commit(table, change);
        }

        Changed?.Invoke(table, change);
        return change.New;
    }

    /// <summary>
    /// Removes <paramref name="current"/>, last seen as <paramref name="last"/>; null when it is not the current version any more.
    /// </summary>
    public StoredObject? Remove(Table table, StoredObject current, JsonObject? last = null)
    {
        Change change;
        lock (_lock)
        {
            if (table.Get(current.Namespace, current.Name) != current)
                return null;
            StoredObject stamped = Stamp(current.Namespace, current.Name, last ?? current.Value.Copy());
            change = new Change(_resourceVersion + 1, current, null, stamped);
            Commit(table, change);
        }

        Changed?.Invoke(table, change);
        return change.Last;
    }

    /// <summary>
    /// Starts a watch. <paramref name="resourceVersion"/> null: with what is there now; else with the changes after it.
    /// False: it is too old.
    /// </summary>
    public bool Subscribe(
        Table table,
        Subscription watch,
        long? resourceVersion,
        out IReadOnlyCollection<StoredObject> now,
        out List<Change> replay,
        out long at
    )
    {
        lock (_lock)
        {
            now = [];
            replay = [];
            at = _resourceVersion;
            if (resourceVersion is null)
            {
                now = [.. table.Objects.Values];
            }
            else
            {
                if (resourceVersion < table.CompactedAt)
                    return false;
                replay.AddRange(table.Since(resourceVersion.Value));
            }

            table.Add(watch);
            return true;
        }
    }

    public void Unsubscribe(Table table, Subscription watch)
    {
        lock (_lock)
            table.Remove(watch);
    }

    public void Bookmark(Subscription watch)
    {
        lock (_lock)
            watch.OfferBookmark(_resourceVersion);
    }

    public void KeepPage(Table table, long resourceVersion, ImmutableSortedDictionary<string, StoredObject> objects)
    {
        lock (_lock)
            table.KeepPage(resourceVersion, objects);
    }

    public ImmutableSortedDictionary<string, StoredObject>? Page(Table table, long resourceVersion)
    {
        lock (_lock)
            return table.Page(resourceVersion);
    }

    /// <summary>Forgets the history: watches that resume, and lists that go on, from before now answer 410.</summary>
    public void Compact()
    {
        lock (_lock)
        {
            foreach (Table table in _tables.Values)
                table.Compact(_resourceVersion);
        }
    }

    /// <summary>Ends every watch of a table, as when its resource is gone.</summary>
    public void CloseWatches(Table table)
    {
        lock (_lock)
        {
            foreach (Subscription watch in table.Watches)
                watch.Close();
        }
    }

    private StoredObject Stamp(string ns, string name, JsonObject value)
    {
        long next = _resourceVersion + 1;
        value.Child("metadata")["resourceVersion"] = next.ToString(CultureInfo.InvariantCulture);
        return new StoredObject(ns, name, value, next);
    }

    private void Commit(Table table, Change change)
    {
        table.Record(change);
        Interlocked.Exchange(ref _resourceVersion, change.ResourceVersion);
    }
}
