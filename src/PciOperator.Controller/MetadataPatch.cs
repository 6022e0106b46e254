using System.Text.Json;
using System.Text.Json.Serialization;
using k8s.Models;
using PciOperator.Kubernetes;

namespace PciOperator.Controller;

/// <summary>Patches of metadata that hold only for the version that was looked at.</summary>
internal static class MetadataPatch
{
    /// <summary>Adds a finalizer to those that are there, of which a cache may know no more than the number.</summary>
    public static EntityPatch AddFinalizer(V1ObjectMeta metadata, string finalizer)
    {
        string name = JsonSerializer.Serialize(finalizer, MetadataPatchJson.Default.String);
        bool any = metadata is LeanObjectMeta { ForeignFinalizers: > 0 } || metadata.Finalizers is { Count: > 0 };
        return ForVersion(
            metadata,
            any
                ? $$"""{"op":"add","path":"/metadata/finalizers/-","value":{{name}}}"""
                : $$"""{"op":"add","path":"/metadata/finalizers","value":[{{name}}]}"""
        );
    }

    /// <summary>Removes a finalizer that is there; the others stay.</summary>
    public static EntityPatch RemoveFinalizer(V1ObjectMeta metadata, string finalizer)
    {
        int known = (metadata.Finalizers ?? []).TakeWhile(f => f != finalizer).Count();
        string place = $"/metadata/finalizers/{((metadata as LeanObjectMeta)?.ForeignFinalizersBefore ?? 0) + known}";
        return ForVersion(
            metadata,
            $$"""
            {"op":"test","path":"{{place}}","value":{{JsonSerializer.Serialize(
                finalizer,
                MetadataPatchJson.Default.String
            )}}},{"op":"remove","path":"{{place}}"}
            """
        );
    }

    /// <summary>Sets an object's owners.</summary>
    public static EntityPatch Owners(V1ObjectMeta metadata, IReadOnlyList<V1OwnerReference> owners) =>
        EntityPatch.Merge(
            JsonSerializer.Serialize(
                new OwnersPatch(new(metadata.ResourceVersion, metadata.Uid, owners)),
                MetadataPatchJson.Default.OwnersPatch
            )
        );

    /// <summary>Sets some annotations; others stay.</summary>
    public static EntityPatch Annotations(V1ObjectMeta metadata, IReadOnlyDictionary<string, string> annotations) =>
        EntityPatch.Merge(
            JsonSerializer.Serialize(
                new AnnotationsPatch(new(metadata.ResourceVersion, metadata.Uid, annotations)),
                MetadataPatchJson.Default.AnnotationsPatch
            )
        );

    /// <summary>Removes an annotation that still has the value that was seen.</summary>
    public static EntityPatch WithoutAnnotation(V1ObjectMeta metadata, string name, string value)
    {
        string path =
            "/metadata/annotations/" + name.Replace("~", "~0", StringComparison.Ordinal).Replace("/", "~1", StringComparison.Ordinal);
        return EntityPatch.Json(
            $$"""
            [{"op":"test","path":"/metadata/uid","value":"{{metadata.Uid}}"},
             {"op":"test","path":"{{path}}","value":{{JsonSerializer.Serialize(value, MetadataPatchJson.Default.String)}}},
             {"op":"remove","path":"{{path}}"}]
            """
        );
    }

    /// <summary>
    /// Another version or UID in the result is what the server calls a conflict (409); a failed <c>test</c> would be a 422.
    /// </summary>
    private static EntityPatch ForVersion(V1ObjectMeta metadata, string operations) =>
        EntityPatch.Json(
            $$"""
            [{"op":"add","path":"/metadata/uid","value":"{{metadata.Uid}}"},{"op":"add","path":"/metadata/resourceVersion","value":"{{metadata.ResourceVersion}}"},{{operations}}]
            """
        );

    internal sealed record OwnersPatch(OwnersPatchMetadata Metadata);

    internal sealed record AnnotationsPatch(AnnotationsPatchMetadata Metadata);

    internal sealed record AnnotationsPatchMetadata(string? ResourceVersion, string? Uid, IReadOnlyDictionary<string, string> Annotations);

    internal sealed record OwnersPatchMetadata(string? ResourceVersion, string? Uid, IReadOnlyList<V1OwnerReference> OwnerReferences);
}

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull
)]
[JsonSerializable(typeof(MetadataPatch.AnnotationsPatch))]
[JsonSerializable(typeof(MetadataPatch.OwnersPatch))]
[JsonSerializable(typeof(string))]
internal sealed partial class MetadataPatchJson : JsonSerializerContext;
