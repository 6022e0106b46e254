using System.Text.Json.Nodes;

namespace PciOperator.Sandbox.ApiServer.Storage;

/// <summary>One version of an object as stored. Its <see cref="Value"/> is shared and must never be changed.</summary>
internal sealed class StoredObject(string ns, string name, JsonObject value, long resourceVersion)
{
    private byte[]? _json;

    public string Namespace { get; } = ns;

    public string Name { get; } = name;

    public JsonObject Value { get; } = value;

    public long ResourceVersion { get; } = resourceVersion;

    /// <summary>The object as JSON, written once however many watches and lists send it.</summary>
    public byte[] Utf8 => _json ??= Json.Utf8(Value);

    public JsonObject Metadata => Value.Obj("metadata")!;

    public string Uid => Metadata.Str("uid") ?? "";

    public bool IsTerminating => Metadata.Str("deletionTimestamp") is not null;

    /// <summary>The key within its table; namespaces sort first, then names.</summary>
    public string Key { get; } = KeyOf(ns, name);

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
