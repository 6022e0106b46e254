using System.Text;

namespace PciOperator.Kubernetes;

/// <summary>A patch: its kind, its body, and, for server-side apply, who applies it.</summary>
public sealed record EntityPatch
{
    private EntityPatch(string contentType, ReadOnlyMemory<byte> body)
    {
        ContentType = contentType;
        Body = body;
    }

    /// <summary>Media type, which is how the server knows the kind of patch.</summary>
    public string ContentType { get; }

    /// <summary>UTF-8 JSON.</summary>
    public ReadOnlyMemory<byte> Body { get; }

    /// <summary>Who owns the fields; needed for apply.</summary>
    public string? FieldManager { get; init; }

    /// <summary>Apply: take fields over from other managers.</summary>
    public bool Force { get; init; }

    /// <summary>Check and answer, but store nothing.</summary>
    public bool DryRun { get; init; }

    /// <summary>A JSON merge patch (RFC 7386): null removes a field, lists are replaced.</summary>
    public static EntityPatch Merge(string json) => Merge(Encoding.UTF8.GetBytes(json));

    /// <inheritdoc cref="Merge(string)"/>
    public static EntityPatch Merge(ReadOnlyMemory<byte> utf8Json) => new("application/merge-patch+json", utf8Json);

    /// <summary>A JSON patch (RFC 6902): a list of operations, all or none; <c>test</c> failing is a 422.</summary>
    public static EntityPatch Json(string json) => Json(Encoding.UTF8.GetBytes(json));

    /// <inheritdoc cref="Json(string)"/>
    public static EntityPatch Json(ReadOnlyMemory<byte> utf8Json) => new("application/json-patch+json", utf8Json);

    /// <summary>Server-side apply of a whole or partial object with apiVersion, kind and name.</summary>
    public static EntityPatch Apply(string json, string fieldManager, bool force = false) =>
        Apply(Encoding.UTF8.GetBytes(json), fieldManager, force);

    /// <inheritdoc cref="Apply(string, string, bool)"/>
    public static EntityPatch Apply(ReadOnlyMemory<byte> utf8Json, string fieldManager, bool force = false) =>
        new("application/apply-patch+yaml", utf8Json) { FieldManager = fieldManager, Force = force };

    /// <summary>A strategic merge patch: lists merged by key. Built-in kinds only; custom resources refuse it (415).</summary>
    public static EntityPatch Strategic(string json) => Strategic(Encoding.UTF8.GetBytes(json));

    /// <inheritdoc cref="Strategic(string)"/>
    public static EntityPatch Strategic(ReadOnlyMemory<byte> utf8Json) => new("application/strategic-merge-patch+json", utf8Json);
}
