using System.Text.Json.Nodes;

namespace PciOperator.Sandbox.ApiServer;

/// <summary>How a <see cref="SandboxApiServer"/> is set up. Everything has a default that suits a sandbox.</summary>
public sealed record SandboxApiServerOptions
{
    /// <summary>The port on 127.0.0.1; 0 takes a free one.</summary>
    public int Port { get; init; }

    /// <summary>The clock of timestamps, bookmarks and watch timeouts.</summary>
    public TimeProvider TimeProvider { get; init; } = TimeProvider.System;

    /// <summary>Makes UIDs and generated names repeatable; random when absent.</summary>
    public int? Seed { get; init; }

    /// <summary>How many changes of each resource can be replayed to a watch; older ones answer 410 Expired.</summary>
    public int HistoryLength { get; init; } = 4096;

    /// <summary>How often a watch that allows bookmarks gets one.</summary>
    public TimeSpan BookmarkInterval { get; init; } = TimeSpan.FromMinutes(1);

    /// <summary>CustomResourceDefinitions to install at start: YAML (any number of documents) or JSON texts.</summary>
    public IReadOnlyList<string> Crds { get; init; } = [];

    /// <summary>Rules that a real server enforces with CEL (<c>x-kubernetes-validations</c>), by group and kind.</summary>
    public IReadOnlyDictionary<GroupKind, ObjectValidator> Validators { get; init; } = new Dictionary<GroupKind, ObjectValidator>();

    /// <summary>
    /// Whether objects go when all their owners are gone, as kube-controller-manager does it (a kube-apiserver alone
    /// does not).
    /// </summary>
    public bool CollectGarbage { get; init; } = true;

    /// <summary>Told of each request, method and path, before it is answered: to count them.</summary>
    public Action<string, string>? OnRequest { get; init; }

    /// <summary>Whether a deleted namespace is emptied and then removed, as kube-controller-manager does it.</summary>
    public bool EmptyDeletedNamespaces { get; init; } = true;
}

/// <summary>An API group ("" for core) and a kind in it.</summary>
public readonly record struct GroupKind(string Group, string Kind);

/// <summary>
/// Checks an object that is about to be stored. <paramref name="oldObject"/> is null for a creation. Both are copies.
/// </summary>
public delegate IEnumerable<FieldError> ObjectValidator(JsonObject newObject, JsonObject? oldObject);

/// <summary>One thing that is wrong with an object.</summary>
/// <param name="Path">The field, as <c>spec.requests[0].count</c>; "" for the whole object.</param>
/// <param name="Message">What is wrong and what would be right, as a CEL rule's message.</param>
/// <param name="Reason">The kind of error, as a CEL rule's reason.</param>
public sealed record FieldError(string Path, string Message, FieldErrorReason Reason = FieldErrorReason.Invalid);

/// <summary>The reasons that a CEL rule may give.</summary>
public enum FieldErrorReason
{
    /// <summary>FieldValueInvalid.</summary>
    Invalid,

    /// <summary>FieldValueRequired.</summary>
    Required,

    /// <summary>FieldValueForbidden.</summary>
    Forbidden,

    /// <summary>FieldValueDuplicate.</summary>
    Duplicate,
}
