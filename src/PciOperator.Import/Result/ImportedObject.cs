using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using k8s;
using k8s.Models;
using PciOperator.Api;

namespace PciOperator.Import;

/// <summary>An object to apply, and what is said of it.</summary>
public sealed class ImportedObject
{
    private ImportedObject(IKubernetesObject<V1ObjectMeta> entity, JsonElement json, IReadOnlyList<string> notes) =>
        (Entity, Json, Notes) = (entity, json, notes);

    /// <summary>The object.</summary>
    public IKubernetesObject<V1ObjectMeta> Entity { get; }

    /// <summary>What of it is not a default.</summary>
    public JsonElement Json { get; }

    /// <summary>Where it comes from, and what is otherwise than there.</summary>
    public IReadOnlyList<string> Notes { get; }

    internal static ImportedObject Of(PciDeviceSpec spec, IReadOnlyList<string> notes) =>
        Of(spec, PciOperatorJsonContext.Default.PciDeviceSpec, notes);

    internal static ImportedObject Of(PciAlias alias, IReadOnlyList<string> notes) =>
        Of(alias, PciOperatorJsonContext.Default.PciAlias, notes);

    internal static ImportedObject Of(PassthroughClaim claim, IReadOnlyList<string> notes) =>
        Of(claim, PciOperatorJsonContext.Default.PassthroughClaim, notes);

    private static ImportedObject Of<T>(T entity, JsonTypeInfo<T> type, IReadOnlyList<string> notes)
        where T : IKubernetesObject<V1ObjectMeta>, new() =>
        new(entity, Lean(JsonSerializer.SerializeToNode(entity, type)!, JsonSerializer.SerializeToNode(new T(), type)!), notes);

    // Defaults go: a person reads this.
    private static JsonElement Lean(JsonNode value, JsonNode usual)
    {
        JsonObject spec = value["spec"]!.AsObject();
        foreach ((string name, JsonNode? def) in usual["spec"]!.AsObject())
        {
            if (JsonNode.DeepEquals(spec[name], def))
                spec.Remove(name);
        }

        using var document = JsonDocument.Parse(value.ToJsonString());
        return document.RootElement.Clone();
    }
}
