namespace PciOperator.Kubernetes.Models;

/// <summary>Any object of the Kubernetes API: it says which group, version and kind it is.</summary>
public interface IKubernetesObject
{
    /// <summary>Group and version, e.g. <c>coordination.k8s.io/v1</c>, or just the version for the core group.</summary>
    string? ApiVersion { get; set; }

    /// <summary>Kind, in the singular and in CamelCase, e.g. <c>Lease</c>.</summary>
    string? Kind { get; set; }
}

/// <summary>An object that carries metadata.</summary>
public interface IMetadata<TMetadata>
{
    /// <summary>Standard metadata.</summary>
    TMetadata Metadata { get; set; }
}

/// <summary>A Kubernetes object with metadata; the shape that the client, the cache and the controllers work on.</summary>
public interface IKubernetesObject<TMetadata> : IKubernetesObject, IMetadata<TMetadata>
{
}
