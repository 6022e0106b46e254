using System.Reflection;
using System.Text.Json.Nodes;
using k8s.Models;
using PciOperator.Api;
using PciOperator.Sandbox.ApiServer;

namespace PciOperator.Sandbox.Validation;

/// <summary>
/// The rules of PciOperator's kinds for a server without CEL: the C# twins on the records
/// (<see cref="Kubernetes.Schema.IHasCelRules{TSelf}"/>), reported where a real server reports them.
/// </summary>
public static class OwnResourceRules
{
    /// <summary>
    /// For <see cref="SandboxApiServerOptions.Validators"/>. An object must have passed its schema and have its defaults.
    /// </summary>
    public static IReadOnlyDictionary<GroupKind, ObjectValidator> Validators { get; } =
        new[] { typeof(PciDeviceSpec), typeof(PciAlias), typeof(PassthroughClaim), typeof(PciQuota) }.ToDictionary(KindOf, ValidatorOf);

    private static GroupKind KindOf(Type kind)
    {
        KubernetesEntityAttribute entity = kind.GetCustomAttribute<KubernetesEntityAttribute>()!;
        return new GroupKind(entity.Group, entity.Kind);
    }

    private static ObjectValidator ValidatorOf(Type kind)
    {
        RecordRules rules = RecordRules.Of(kind) ?? throw new InvalidOperationException($"{kind} has no rules.");
        return (JsonObject newObject, JsonObject? oldObject) => rules.Broken(newObject, oldObject, "");
    }
}
