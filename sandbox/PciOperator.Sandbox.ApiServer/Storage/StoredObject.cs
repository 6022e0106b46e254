using System.Text.Json.Nodes;

namespace PciOperator.Sandbox.ApiServer.Storage;

/// <summary>
/// One version of an object as stored. Its <see cref="Value"/> is shared and must never be changed. Once the object has
/// been sent it is kept as JSON text, which takes a fraction of the memory, and read again when it is needed.
/// </summary>
internal sealed class StoredObject
{
    private readonly WeakReference<JsonObject> _remembered;
    private JsonObject? _value;
    private byte[]? _utf8;

    public StoredObject(string ns, string name, JsonObject value, long resourceVersion)
    {
        Namespace = ns;
        Name = name;
        Key = KeyOf(ns, name);
        ResourceVersion = resourceVersion;
        _value = value;
        _remembered = new WeakReference<JsonObject>(value);
        JsonObject? metadata = value.Obj("metadata");
        Uid = metadata.Str("uid") ?? "";
        IsTerminating = metadata.Str("deletionTimestamp") is not null;
        Labels = metadata.Obj("labels")?.Copy();
        OwnerUids = metadata.Arr("ownerReferences")?.OfType<JsonObject>().Select(o => o.Str("uid")).OfType<string>().ToArray() ?? [];
    }

    public string Namespace { get; }

    public string Name { get; }

    /// <summary>The key within its table; namespaces sort first, then names.</summary>
    public string Key { get; }

    public long ResourceVersion { get; }

    public string Uid { get; }

    public bool IsTerminating { get; }

    public JsonObject? Labels { get; }

    public IReadOnlyList<string> OwnerUids { get; }

    public JsonObject Value
    {
        get
        {
            if (_value is { } value)
                return value;
            if (_remembered.TryGetTarget(out JsonObject? remembered))
                return remembered;
            JsonObject read = Json.ParseObject(_utf8);
            _remembered.SetTarget(read);
            return read;
        }
    }

    /// <summary>The object as JSON, written once however many watches and lists send it.</summary>
    public byte[] Utf8
    {
        get
        {
            if (_utf8 is { } there)
                return there;
            byte[] utf8 = Json.Utf8(Value);
            // In this order: whoever finds no value must find the text.
            Volatile.Write(ref _utf8, utf8);
            Volatile.Write(ref _value, null);
            return utf8;
        }
    }

    public static string KeyOf(string ns, string name) => ns.Length == 0 ? name : $"{ns}/{name}";
}

/// <summary>A change of an object.</summary>
/// <param name="ResourceVersion">When: the store's counter after it.</param>
/// <param name="Old">What was there; null for a creation.</param>
/// <param name="New">What is there; null for a removal.</param>
/// <param name="Last">The object as a DELETED event shows it: the last state with the removal's resourceVersion.</param>
internal sealed record Change(long ResourceVersion, StoredObject? Old, StoredObject? New, StoredObject? Last)
{
    public StoredObject Subject => New ?? Last!;
}
