using System.Globalization;
using PciOperator.Kubernetes.Models;

namespace PciOperator.Kubernetes;

/// <summary>
/// The objects of a cache with their indexes, and the rules by which newer states replace older ones. Not thread-safe:
/// the cache holds its lock.
/// </summary>
/// <remarks>
/// Resource versions are compared as integers (KEP-5504). <c>_streamVersion</c> is how far list and watch have told
/// everything; what a write's answer says about an older moment is therefore known already, or it was deleted since.
/// </remarks>
internal sealed class ObjectStore<T>(Action<WatchCacheChange<T>> changed)
    where T : class, IKubernetesObject<V1ObjectMeta>
{
    private readonly Dictionary<EntityKey, T> _objects = [];
    private readonly Dictionary<string, ObjectIndex<T>> _indexes = new(StringComparer.Ordinal);
    private ulong _streamVersion;
    private T[]? _list = [];

    public long Version { get; private set; }

    public void AddIndex(string name, Func<T, IEnumerable<string>> keys)
    {
        var index = new ObjectIndex<T>(keys);
        foreach (var (key, obj) in _objects)
            index.Replace(key, null, obj);
        _indexes.Add(name, index);
    }

    public T? Get(EntityKey key) => _objects.GetValueOrDefault(key);

    public T[] List() => _list ??= [.. _objects.Values];

    public T[] ByIndex(string index, string key) =>
        _indexes.TryGetValue(index, out var found)
            ? found.Lookup(key)
            : throw new ArgumentException($"There is no index '{index}'; add it with AddIndex.", nameof(index));

    /// <summary>A list replaces everything but what is known to be newer than it. What it lacks is gone.</summary>
    /// <returns>False when the collection's version went backwards: the server has another past than the one we knew.</returns>
    public bool Replace(KubernetesList<T> list)
    {
        var listVersion = Parse(list.ResourceVersion);
        var sameHistory = listVersion >= _streamVersion;
        _streamVersion = listVersion;
        var present = new HashSet<EntityKey>(list.Items.Count);
        foreach (var obj in list.Items)
        {
            var key = EntityKey.Of(obj);
            present.Add(key);
            if (!sameHistory || !_objects.TryGetValue(key, out var known) || IsNewer(obj, known))
                Put(key, obj);
        }

        // Something observed after the list was made is not missing from it.
        var gone = _objects.Where(o => !present.Contains(o.Key) && !(sameHistory && VersionOf(o.Value) > listVersion)).ToList();
        foreach (var (key, _) in gone)
            Remove(key);
        return sameHistory;
    }

    /// <summary>An event of the watch.</summary>
    public void Apply(WatchEvent<T> watchEvent)
    {
        var eventVersion = Parse(watchEvent.ResourceVersion);
        var isRepeated = eventVersion <= _streamVersion;
        if (!isRepeated)
            _streamVersion = eventVersion;
        if (watchEvent.Object is not { } obj)
            return;
        var key = EntityKey.Of(obj);
        var known = Get(key);
        if (watchEvent.Type == WatchEventType.Deleted)
        {
            // The deletion of an earlier object of that name must not take away its successor.
            if (known is not null && (known.Metadata.Uid == obj.Metadata.Uid || !IsNewer(known, obj)))
                Remove(key);
        }
        else if (known is null ? !isRepeated : IsNewer(obj, known))
        {
            // An object that is not known although its event is a repetition was deleted since.
            Put(key, obj);
        }
    }

    /// <summary>A write's answer, when it is news.</summary>
    public void Observe(T obj)
    {
        var key = EntityKey.Of(obj);
        var version = VersionOf(obj);
        if (version <= _streamVersion || (Get(key) is { } known && VersionOf(known) >= version))
            return;
        Put(key, obj);
    }

    private void Put(EntityKey key, T obj)
    {
        var old = Get(key);
        if (old is not null && old.Metadata.Uid != obj.Metadata.Uid)
        {
            Remove(key);
            old = null;
        }
        else if (old is not null && old.Metadata.ResourceVersion == obj.Metadata.ResourceVersion)
        {
            return;
        }

        _objects[key] = obj;
        Changed(key, old, obj);
    }

    private void Remove(EntityKey key)
    {
        if (_objects.Remove(key, out var old))
            Changed(key, old, null);
    }

    private void Changed(EntityKey key, T? old, T? now)
    {
        foreach (var index in _indexes.Values)
            index.Replace(key, old, now);
        _list = null;
        Version++;
        var kind = old is null ? WatchCacheChangeKind.Added : now is null ? WatchCacheChangeKind.Deleted : WatchCacheChangeKind.Updated;
        changed(new WatchCacheChange<T>(kind, old, now));
    }

    private static bool IsNewer(T a, T b) => VersionOf(a) > VersionOf(b);

    private static ulong VersionOf(T obj) => Parse(obj.Metadata.ResourceVersion);

    private static ulong Parse(string? resourceVersion) =>
        ulong.TryParse(resourceVersion, NumberStyles.None, CultureInfo.InvariantCulture, out var version)
            ? version
            : throw new FormatException($"Resource version '{resourceVersion}' is not a decimal number, as Kubernetes promises it to be (KEP-5504).");
}

/// <summary>Objects by a key that is worked out from them; an object can have several, or none.</summary>
internal sealed class ObjectIndex<T>(Func<T, IEnumerable<string>> keysOf)
    where T : class
{
    private readonly Dictionary<string, Dictionary<EntityKey, T>> _byKey = new(StringComparer.Ordinal);

    public T[] Lookup(string key) => _byKey.TryGetValue(key, out var found) ? [.. found.Values] : [];

    public void Replace(EntityKey entity, T? old, T? now)
    {
        if (old is not null)
        {
            foreach (var key in keysOf(old))
            {
                if (_byKey.TryGetValue(key, out var entries) && entries.Remove(entity) && entries.Count == 0)
                    _byKey.Remove(key);
            }
        }

        if (now is not null)
        {
            foreach (var key in keysOf(now))
            {
                if (!_byKey.TryGetValue(key, out var entries))
                    _byKey[key] = entries = [];
                entries[entity] = now;
            }
        }
    }
}
