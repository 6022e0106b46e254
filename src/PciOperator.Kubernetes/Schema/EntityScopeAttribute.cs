namespace PciOperator.Kubernetes.Schema;

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
