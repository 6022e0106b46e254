using System.Globalization;
using k8s;
using k8s.Models;

namespace PciOperator.Kubernetes;

/// <summary>
/// The objects of a cache with their indexes, and the rules by which newer states replace older ones. Not thread-safe:
/// the cache holds its lock.
/// </summary>
/// <remarks>
/// Resource versions are compared as integers (KEP-5504). <c>_streamVersion</c> is how far list and watch have told
/// everything; what a write's answer says about an older moment is therefore known already, or it was deleted since.
/// </remarks>
internal sealed class ObjectStore<T>(Action<WatchCacheChange<T>> changed, Action<UnreadableObject>? becameUnreadable = null)
    where T : class, IKubernetesObject<V1ObjectMeta>
{
    private readonly Dictionary<EntityKey, T> _objects = [];
    private readonly Dictionary<string, ObjectIndex<T>> _indexes = new(StringComparer.Ordinal);

    // Of these _objects may have an earlier state, which stays: an object that can't be read is not gone.
    private readonly Dictionary<EntityKey, UnreadableObject> _unreadable = [];
    private ulong _streamVersion;
    private T[]? _list = [];

    public long Version { get; private set; }

    public ulong StreamVersion => _streamVersion;

    public void AddIndex(string name, Func<T, IEnumerable<string>> keys)
    {
        var index = new ObjectIndex<T>(keys);
        foreach ((EntityKey key, T obj) in _objects)
            index.Replace(key, null, obj);
        _indexes.Add(name, index);
    }

    public T? Get(EntityKey key) => _objects.GetValueOrDefault(key);

    public T[] List() => _list ??= [.. _objects.Values];

    public UnreadableObject[] Unreadable() => [.. _unreadable.Values];

    public bool IsUnreadable(EntityKey key) => _unreadable.ContainsKey(key);

    public T[] ByIndex(string index, string key) =>
        _indexes.TryGetValue(index, out ObjectIndex<T>? found)
            ? found.Lookup(key)
            : throw new ArgumentException($"There is no index '{index}'; add it with AddIndex.", nameof(index));

    /// <summary>A list replaces everything but what is known to be newer than it. What it lacks is gone.</summary>
    /// <returns>False when the collection's version went backwards: the server has another past than the one we knew.</returns>
    public bool Replace(EntityList<T> list)
    {
        ulong listVersion = Parse(list.Metadata.ResourceVersion);
        bool sameHistory = listVersion >= _streamVersion;
        _streamVersion = listVersion;
        var present = new HashSet<EntityKey>(list.Items.Count + list.Unreadable.Count);
        var unreadable = new List<UnreadableObject>(list.Unreadable);
        foreach (T obj in list.Items)
        {
            var key = EntityKey.Of(obj);
            present.Add(key);
            if (WhyNot(obj) is { } why)
                unreadable.Add(why);
            else if (!sameHistory || !_objects.TryGetValue(key, out T? known) || IsNewer(obj, known))
                Put(key, obj, otherHistory: !sameHistory);
            else if (!IsNewer(known, obj))
                _unreadable.Remove(key);
        }

        foreach (UnreadableObject obj in unreadable)
        {
            present.Add(obj.Key);
            PutUnreadable(obj, otherHistory: !sameHistory);
        }

        // Something observed after the list was made is not missing from it.
        var gone = _objects.Where(o => !present.Contains(o.Key) && !(sameHistory && VersionOf(o.Value) > listVersion)).ToList();
        foreach ((EntityKey key, T _) in gone)
            Remove(key);
        foreach (EntityKey key in _unreadable.Keys.Where(k => !present.Contains(k)).ToList())
            _unreadable.Remove(key);
        return sameHistory;
    }

    /// <summary>An event of the watch.</summary>
    /// <returns>False when it is older than what the stream has told already: the server has another past than the one we knew.</returns>
    public bool Apply(WatchEvent<T> watchEvent)
    {
        ulong eventVersion = Parse(watchEvent.ResourceVersion);
        bool isRepeated = eventVersion <= _streamVersion;
        bool isInOrder = eventVersion >= _streamVersion;
        if (!isRepeated)
            _streamVersion = eventVersion;
        if (watchEvent.Object is { } obj)
            Apply(watchEvent.Type, obj, isRepeated);
        else if (watchEvent.Unreadable is { } unreadable)
            ApplyUnreadable(watchEvent.Type, unreadable, isRepeated);
        return isInOrder;
    }

    private void Apply(WatchEventType type, T obj, bool isRepeated)
    {
        var key = EntityKey.Of(obj);
        T? known = Get(key);
        if (type == WatchEventType.Deleted)
        {
            // The deletion of an earlier object of that name must not take away its successor.
            if (known is not null && (known.Metadata.Uid == obj.Metadata.Uid || !IsNewer(known, obj)))
                Remove(key);
            if (_unreadable.TryGetValue(key, out UnreadableObject? unreadable) && unreadable.Uid == obj.Metadata.Uid)
                _unreadable.Remove(key);
        }
        else if (known is null ? !isRepeated : IsNewer(obj, known))
        {
            // An object that is not known although its event is a repetition was deleted since.
            if (WhyNot(obj) is { } why)
                PutUnreadable(why, otherHistory: false);
            else
                Put(key, obj);
        }
    }

    private void ApplyUnreadable(WatchEventType type, UnreadableObject obj, bool isRepeated)
    {
        if (type != WatchEventType.Deleted)
        {
            if (!isRepeated)
                PutUnreadable(obj, otherHistory: false);
            return;
        }

        if (Get(obj.Key) is { } known && (known.Metadata.Uid == obj.Uid || VersionOf(known) <= Parse(obj.ResourceVersion)))
            Remove(obj.Key);
        if (_unreadable.TryGetValue(obj.Key, out UnreadableObject? unreadable) && unreadable.Uid == obj.Uid)
            _unreadable.Remove(obj.Key);
    }

    /// <summary>A write's answer, when it is news.</summary>
    public void Observe(T obj)
    {
        var key = EntityKey.Of(obj);
        ulong version = VersionOf(obj);
        if (version <= _streamVersion || (Get(key) is { } known && VersionOf(known) >= version))
            return;
        if (WhyNot(obj) is { } why)
            PutUnreadable(why, otherHistory: false);
        else
            Put(key, obj);
    }

    /// <summary>
    /// Why an object is of no use although its JSON could be read; null: it is. (An index may find a null that its schema rules out.)
    /// </summary>
    private UnreadableObject? WhyNot(T obj)
    {
        try
        {
            VersionOf(obj);
            foreach (ObjectIndex<T> index in _indexes.Values)
                index.Check(obj);
            return null;
        }
#pragma warning disable CA1031 // Whatever it is, it is about this object and no other.
        catch (Exception e)
#pragma warning restore CA1031
        {
            return new UnreadableObject(EntityKey.Of(obj), obj.Metadata.Uid, obj.Metadata.ResourceVersion, e.Message);
        }
    }

    private void PutUnreadable(UnreadableObject obj, bool otherHistory)
    {
        T? known = Get(obj.Key);
        bool isVersion = ulong.TryParse(obj.ResourceVersion, NumberStyles.None, CultureInfo.InvariantCulture, out ulong version);
        if (known is not null && !otherHistory && isVersion && VersionOf(known) >= version)
            return;
        // Another object of the same name: what was known of the first is over.
        if (known is not null && obj.Uid is not null && known.Metadata.Uid != obj.Uid)
            Remove(obj.Key);
        bool isNews =
            !_unreadable.TryGetValue(obj.Key, out UnreadableObject? before)
            || before.ResourceVersion != obj.ResourceVersion
            || before.Uid != obj.Uid;
        _unreadable[obj.Key] = obj;
        if (isNews)
            becameUnreadable?.Invoke(obj);
    }

    private void Put(EntityKey key, T obj, bool otherHistory = false)
    {
        _unreadable.Remove(key);
        T? old = Get(key);
        if (old is not null && old.Metadata.Uid != obj.Metadata.Uid)
        {
            Remove(key);
            old = null;
        }
        else if (old is not null && !otherHistory && old.Metadata.ResourceVersion == obj.Metadata.ResourceVersion)
        {
            return;
        }

        _objects[key] = obj;
        Changed(key, old, obj);
    }

    private void Remove(EntityKey key)
    {
        if (_objects.Remove(key, out T? old))
            Changed(key, old, null);
    }

    private void Changed(EntityKey key, T? old, T? now)
    {
        foreach (ObjectIndex<T> index in _indexes.Values)
            index.Replace(key, old, now);
        _list = null;
        Version++;
        WatchCacheChangeKind kind =
            old is null ? WatchCacheChangeKind.Added
            : now is null ? WatchCacheChangeKind.Deleted
            : WatchCacheChangeKind.Updated;
        changed(new WatchCacheChange<T>(kind, old, now));
    }

    private static bool IsNewer(T a, T b) => VersionOf(a) > VersionOf(b);

    private static ulong VersionOf(T obj) => Parse(obj.Metadata.ResourceVersion);

    private static ulong Parse(string? resourceVersion) =>
        ulong.TryParse(resourceVersion, NumberStyles.None, CultureInfo.InvariantCulture, out ulong version)
            ? version
            : throw new FormatException(
                $"Resource version '{resourceVersion}' is not a decimal number, as Kubernetes promises it to be (KEP-5504)."
            );
}

/// <summary>Objects by a key that is worked out from them; an object can have several, or none.</summary>
internal sealed class ObjectIndex<T>(Func<T, IEnumerable<string>> keysOf)
    where T : class
{
    private readonly Dictionary<string, Dictionary<EntityKey, T>> _byKey = new(StringComparer.Ordinal);

    public T[] Lookup(string key) => _byKey.TryGetValue(key, out Dictionary<EntityKey, T>? found) ? [.. found.Values] : [];

    /// <summary>Works out an object's keys and forgets them: what that throws is about the object.</summary>
    public void Check(T obj)
    {
        foreach (string _ in keysOf(obj)) { }
    }

    public void Replace(EntityKey entity, T? old, T? now)
    {
        if (old is not null)
        {
            foreach (string key in keysOf(old))
            {
                if (_byKey.TryGetValue(key, out Dictionary<EntityKey, T>? entries) && entries.Remove(entity) && entries.Count == 0)
                    _byKey.Remove(key);
            }
        }

        if (now is not null)
        {
            foreach (string key in keysOf(now))
            {
                if (!_byKey.TryGetValue(key, out Dictionary<EntityKey, T>? entries))
                    _byKey[key] = entries = [];
                entries[entity] = now;
            }
        }
    }
}
