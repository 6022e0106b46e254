namespace PciOperator.Kubernetes.Models;

/// <summary>Says where objects of the type are in the API: <c>/apis/{Group}/{ApiVersion}/…/{PluralName}</c>.</summary>
[AttributeUsage(AttributeTargets.Class, Inherited = false)]
public sealed class KubernetesEntityAttribute : Attribute
{
    /// <summary>API group; empty for the core group.</summary>
    public string Group { get; set; } = "";

    /// <summary>Version, e.g. <c>v1alpha1</c>.</summary>
    public string ApiVersion { get; set; } = "v1";

    /// <summary>Kind, e.g. <c>PciNode</c>.</summary>
    public string Kind { get; set; } = "";

    /// <summary>Plural in lower case, as it is in the URL, e.g. <c>pcinodes</c>.</summary>
    public string PluralName { get; set; } = "";
}

/// <summary>Whether objects of a kind live in a namespace.</summary>
public enum EntityScope
{
    /// <summary>Objects have a namespace.</summary>
    Namespaced,

    /// <summary>Objects have none.</summary>
    Cluster,
}

/// <summary>The scope of an entity; without the attribute it is <see cref="EntityScope.Namespaced"/>.</summary>
[AttributeUsage(AttributeTargets.Class, Inherited = false)]
public sealed class EntityScopeAttribute(EntityScope scope = EntityScope.Namespaced) : Attribute
{
    /// <summary>The scope.</summary>
    public EntityScope Scope { get; } = scope;
}
