using System.Reflection;
using System.Text;
using k8s;
using k8s.Models;
using PciOperator.Kubernetes.Schema;

namespace PciOperator.Kubernetes;

/// <summary>What an object is, also when it does not say so itself.</summary>
internal static class EntityType
{
    public static (string ApiVersion, string Kind) Of(IKubernetesObject obj)
    {
        KubernetesEntityAttribute? entity = obj.GetType().GetCustomAttribute<KubernetesEntityAttribute>();
        return (obj.ApiVersion ?? (entity is null ? "" : ApiVersionOf(entity)), obj.Kind ?? entity?.Kind ?? "");
    }

    public static string ApiVersionOf(KubernetesEntityAttribute entity) =>
        string.IsNullOrEmpty(entity.Group) ? entity.ApiVersion : $"{entity.Group}/{entity.ApiVersion}";
}

/// <summary>Where objects of <typeparamref name="T"/> are in the API, from its attributes, which are the library's.</summary>
internal static class EntityType<T>
    where T : class, IKubernetesObject<V1ObjectMeta>
{
    private static readonly KubernetesEntityAttribute Entity =
        typeof(T).GetCustomAttribute<KubernetesEntityAttribute>()
        ?? throw new InvalidOperationException($"{typeof(T)} has no [KubernetesEntity], so there is no telling where in the API it is.");

    public static string Kind => Entity.Kind;

    public static string Group => Entity.Group ?? "";

    // Of Resourcev1ResourceClaim the library says none.
    public static string Plural { get; } =
        string.IsNullOrEmpty(Entity.PluralName) ? Entity.Kind.ToLowerInvariant() + "s" : Entity.PluralName;

    public static string ApiVersion { get; } = EntityType.ApiVersionOf(Entity);

    public static bool IsNamespaced { get; } =
        !BuiltInModels.IsClusterScoped(typeof(T)) && typeof(T).GetCustomAttribute<EntityScopeAttribute>()?.Scope != EntityScope.Cluster;

    private static readonly string Root = string.IsNullOrEmpty(Entity.Group)
        ? $"/api/{Entity.ApiVersion}"
        : $"/apis/{Entity.Group}/{Entity.ApiVersion}";

    /// <summary>The path of a collection; for a namespaced kind without a namespace, of all namespaces together.</summary>
    public static string CollectionPath(string? ns) =>
        IsNamespaced && !string.IsNullOrEmpty(ns) ? $"{Root}/namespaces/{Uri.EscapeDataString(ns)}/{Plural}" : $"{Root}/{Plural}";

    /// <summary>The path of one object.</summary>
    /// <exception cref="ArgumentException">No name, or no namespace where one is needed.</exception>
    public static string ObjectPath(string? name, string? ns, string? subresource = null)
    {
        if (string.IsNullOrEmpty(name))
            throw new ArgumentException($"A {Kind} needs a name.", nameof(name));
        RequireNamespace(name, ns);
        StringBuilder path = new StringBuilder(CollectionPath(ns)).Append('/').Append(Uri.EscapeDataString(name));
        if (!string.IsNullOrEmpty(subresource))
            path.Append('/').Append(subresource);
        return path.ToString();
    }

    public static void RequireNamespace(string? name, string? ns)
    {
        if (IsNamespaced && string.IsNullOrEmpty(ns))
            throw new ArgumentException($"{Kind} {name} needs a namespace.", nameof(ns));
    }

    /// <summary>Fills in what lists leave out and callers need not write.</summary>
    public static T WithKind(T obj)
    {
        if (string.IsNullOrEmpty(obj.ApiVersion))
            obj.ApiVersion = ApiVersion;
        if (string.IsNullOrEmpty(obj.Kind))
            obj.Kind = Kind;
        return obj;
    }
}
