using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using k8s;
using k8s.Models;

namespace PciOperator.Kubernetes;

/// <summary>
/// How the library's models are read and written here. What no program of ours looks at is left out, so that it is never in memory: a Node
/// as a kubelet writes it (images, addresses, capacities, managedFields) would cost six times as much in a cache.
/// </summary>
/// <remarks>Who needs another field adds its JSON name; who needs another kind adds it to <see cref="BuiltInJsonContext"/>.</remarks>
internal static class BuiltInModels
{
    private static readonly Dictionary<Type, string[]> Kept = new()
    {
        [typeof(V1NodeSpec)] = ["unschedulable", "taints"],
        [typeof(V1NodeStatus)] = ["conditions", "nodeInfo"],
        [typeof(V1NodeSystemInfo)] = ["bootID", "kernelVersion"],
        [typeof(V1NamespaceSpec)] = [],
        [typeof(V1NamespaceStatus)] = ["phase"],
        [typeof(V1PriorityClass)] = ["apiVersion", "kind", "metadata", "value", "globalDefault"],
        [typeof(V1PodSpec)] = ["nodeName", "priority", "resourceClaims"],
        [typeof(V1PodStatus)] = ["phase", "conditions", "resourceClaimStatuses"],
        [typeof(V1PodCondition)] = ["type", "status", "reason", "message", "lastTransitionTime"],
    };

    // A MicroTime has exactly six digits after the point, and the server refuses any other number.
    private static readonly HashSet<(Type, string)> MicroTimes =
    [
        (typeof(V1LeaseSpec), "acquireTime"),
        (typeof(V1LeaseSpec), "renewTime"),
        (typeof(Eventsv1Event), "eventTime"),
        (typeof(Eventsv1EventSeries), "lastObservedTime"),
    ];

    /// <summary>Whether the library's kind has no namespace, which its attributes do not say.</summary>
    public static bool IsClusterScoped(Type kind) =>
        kind == typeof(V1Node)
        || kind == typeof(V1Namespace)
        || kind == typeof(V1PriorityClass)
        || kind == typeof(V1ResourceSlice)
        || kind == typeof(V1DeviceClass);

    /// <summary>Changes the JSON metadata of a model.</summary>
    public static void Modify(JsonTypeInfo type)
    {
        if (type.Kind != JsonTypeInfoKind.Object)
            return;
        if (typeof(IKubernetesObject<V1ObjectMeta>).IsAssignableFrom(type.Type))
            AlwaysHasMetadata(type);
        for (int i = type.Properties.Count - 1; i >= 0; i--)
        {
            JsonPropertyInfo property = type.Properties[i];
            if (!IsKept(type.Type, property.Name))
                type.Properties.RemoveAt(i);
            else if (MicroTimes.Contains((type.Type, property.Name)))
                property.CustomConverter = property.PropertyType == typeof(DateTime) ? RequiredTimeConverter.Micro : TimeConverter.Micro;
        }
    }

    // managedFields are often larger than the object.
    private static bool IsKept(Type type, string property) =>
        type == typeof(V1ObjectMeta)
            ? property is not ("managedFields" or "selfLink")
            : !Kept.TryGetValue(type, out string[]? kept) || kept.Contains(property);

    /// <summary>
    /// The library's objects are made without metadata; an answer that has none is an object without a name, as with our own kinds.
    /// </summary>
    private static void AlwaysHasMetadata(JsonTypeInfo type)
    {
        if (type.CreateObject is not { } create)
            return;
        type.CreateObject = () =>
        {
            var made = (IKubernetesObject<V1ObjectMeta>)create();
            made.Metadata ??= new V1ObjectMeta();
            return made;
        };
    }
}

/// <summary>
/// JSON metadata of the built-in models. Not the library's <c>SourceGenerationContext</c>, which knows every kind of Kubernetes and costs
/// 12 MB.
/// </summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    UseStringEnumConverter = true
)]
[JsonSerializable(typeof(V1Status))]
[JsonSerializable(typeof(V1ListMeta))]
[JsonSerializable(typeof(V1ObjectMeta))]
[JsonSerializable(typeof(V1Lease))]
[JsonSerializable(typeof(V1Node))]
[JsonSerializable(typeof(V1Pod))]
[JsonSerializable(typeof(V1Namespace))]
[JsonSerializable(typeof(V1PriorityClass))]
[JsonSerializable(typeof(V1ConfigMap))]
[JsonSerializable(typeof(V1Condition))]
[JsonSerializable(typeof(Eventsv1Event))]
[JsonSerializable(typeof(V1DeleteOptions))]
// The library's models hold what has no fixed shape as a JsonElement behind an object.
[JsonSerializable(typeof(System.Text.Json.JsonElement))]
public sealed partial class BuiltInJsonContext : JsonSerializerContext;
