using k8s.Models;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Kubernetes;
using PciOperator.Kubernetes.Schema;

namespace PciOperator.Controller;

/// <summary>Says on each PciDeviceSpec whether it can be used and what it matches.</summary>
[EntityRbac(PciOperatorApi.Group, "pcidevicespecs", "list,watch")]
[EntityRbac(PciOperatorApi.Group, "pcidevicespecs/status", "update")]
internal sealed class PciDeviceSpecController(
    IEntityClient client,
    ControllerCaches caches,
    ClusterView view,
    LeftOutSpecs leftOut,
    TimeProvider time
) : IEntityController<PciDeviceSpec>
{
    private const int MostNamed = 8;

    /// <inheritdoc/>
    public async Task<ReconciliationResult> ReconcileAsync(PciDeviceSpec entity, CancellationToken ct)
    {
        (int nodes, int devices) = view.CountOfSpec(entity.Metadata.Name!);
        (bool accepted, string reason, string message) = Judge(() => entity.Spec.ToDeviceRule(entity.Metadata.Name!));
        IReadOnlyList<V1Condition> conditions = Applied(
            (entity.Status?.Conditions).With(Conditions.Accepted, accepted, reason, message, entity.Metadata.Generation, time.GetUtcNow()),
            entity
        );
        V1Condition? wrong = conditions.FirstOrDefault(c => c is { Type: Conditions.Accepted or Conditions.Applied, Status: "False" });
        var status = new PciDeviceSpecStatus
        {
            ObservedGeneration = entity.Metadata.Generation,
            Nodes = nodes,
            Devices = devices,
            Conditions = conditions.WithStalled(
                wrong is not null,
                wrong?.Reason ?? "",
                wrong?.Message ?? "",
                entity.Metadata.Generation,
                time.GetUtcNow()
            ),
        };
        if (
            entity.Status is { } now
            && now.ObservedGeneration == status.ObservedGeneration
            && now.Nodes == nodes
            && now.Devices == devices
            && now.Conditions.Find(Conditions.Applied) == status.Conditions.Find(Conditions.Applied)
            && now.Conditions.Find(Conditions.Stalled) == status.Conditions.Find(Conditions.Stalled)
            && now.Conditions.Find(Conditions.Accepted) == status.Conditions.Find(Conditions.Accepted)
        )
        {
            return ReconciliationResult.Done;
        }

        caches.Specs.Observe(await client.UpdateStatusAsync(entity with { Status = status }, ct));
        return ReconciliationResult.Done;
    }

    /// <inheritdoc/>
    public Task DeletedAsync(PciDeviceSpec entity, CancellationToken ct) => Task.CompletedTask;

    /// <summary>Says which nodes have no room for the spec, if there are such or were.</summary>
    private IReadOnlyList<V1Condition> Applied(IReadOnlyList<V1Condition> conditions, PciDeviceSpec spec)
    {
        IReadOnlyList<string> nodes = leftOut.NodesWithout(spec.Metadata.Name!);
        if (nodes.Count == 0 && conditions.Find(Conditions.Applied) is null)
            return conditions;
        (string reason, string message) =
            nodes.Count == 0
                ? ("Applied", "every node that it is for has it")
                : (
                    "TooManySpecs",
                    $"{Counted.Of(nodes.Count, "node")} {(nodes.Count == 1 ? "has" : "have")} no room for it beside the specs that come before it (a node takes {NodeShares.MostRules}, or {StoredSize.Rules / 1000} kB of them), and it offers nothing there: "
                        + $"{string.Join(", ", nodes.Take(MostNamed))}{(nodes.Count > MostNamed ? " …" : "")}. Give it a higher priority, or join specs"
                );
        return conditions.With(Conditions.Applied, nodes.Count == 0, reason, message, spec.Metadata.Generation, time.GetUtcNow());
    }

    /// <summary>Whether something parses, and if not, which field is wrong and what would be right.</summary>
    internal static (bool Accepted, string Reason, string Message) Judge(Func<object> parse)
    {
        try
        {
            parse();
            return (true, "Accepted", "it can be used");
        }
        catch (SpecFormatException wrong)
        {
            return (false, "Invalid", $"{wrong.Field}: {wrong.Message}");
        }
    }
}

/// <summary>Says on each PciAlias whether it can be used and what it means, and makes it known to the allocator.</summary>
[EntityRbac(PciOperatorApi.Group, "pcialiases", "list,watch")]
[EntityRbac(PciOperatorApi.Group, "pcialiases/status", "update")]
internal sealed class PciAliasController(IEntityClient client, ControllerCaches caches, ClusterView view, TimeProvider time)
    : IEntityController<PciAlias>
{
    /// <inheritdoc/>
    public async Task<ReconciliationResult> ReconcileAsync(PciAlias entity, CancellationToken ct)
    {
        AliasDefinition? alias = null;
        (bool accepted, string reason, string message) = PciDeviceSpecController.Judge(() =>
            alias = view.Alias(entity.Metadata.Name!) ?? entity.ToDefinition()
        );
        (int nodes, int devices) = alias is null ? (0, 0) : view.CountOfAlias(alias);
        if (alias is not null && devices == 0 && view.OtherTypeOf(alias) is { } type)
            message = $"it can be used, and means no device, but devices of {type.ToNova()} have its ids: give deviceType: {type.ToNova()}";
        var status = new PciAliasStatus
        {
            ObservedGeneration = entity.Metadata.Generation,
            Summary = Summary(entity.Spec),
            Nodes = nodes,
            Devices = devices,
            Conditions = (entity.Status?.Conditions)
                .With(Conditions.Accepted, accepted, reason, message, entity.Metadata.Generation, time.GetUtcNow())
                .WithStalled(!accepted, reason, message, entity.Metadata.Generation, time.GetUtcNow()),
        };
        if (
            entity.Status is { } now
            && now.ObservedGeneration == status.ObservedGeneration
            && now.Nodes == nodes
            && now.Devices == devices
            && now.Summary == status.Summary
            && now.Conditions.Find(Conditions.Stalled) == status.Conditions.Find(Conditions.Stalled)
            && now.Conditions.Find(Conditions.Accepted) == status.Conditions.Find(Conditions.Accepted)
        )
        {
            return ReconciliationResult.Done;
        }

        caches.Aliases.Observe(await client.UpdateStatusAsync(entity with { Status = status }, ct));
        return ReconciliationResult.Done;
    }

    /// <inheritdoc/>
    public Task DeletedAsync(PciAlias entity, CancellationToken ct) => Task.CompletedTask;

    /// <summary><c>8086:10ca type-VF, 8086:154c type-VF</c>.</summary>
    private static string Summary(PciAliasSpec spec) =>
        Fitted.Text(
            string.Join(
                ", ",
                spec.Devices.Select(d =>
                    string.Join(
                        ' ',
                        new[]
                        {
                            d.VendorId is null && d.ProductId is null ? null : $"{d.VendorId ?? "*"}:{d.ProductId ?? "*"}",
                            d.ResourceClass,
                            d.DeviceType?.ToNova(),
                        }.OfType<string>()
                    )
                )
            ),
            4096
        );
}
