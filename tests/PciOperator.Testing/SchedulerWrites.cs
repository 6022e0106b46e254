using k8s.Models;
using PciOperator.Kubernetes;

namespace PciOperator.Testing;

/// <summary>
/// What kube-scheduler and kube-controller-manager write of a ResourceClaim, one write at a time, for tests that want to stand between them;
/// <c>SimulatedScheduler</c> does it by itself. The client has to know resource.k8s.io's kinds.
/// </summary>
public static class SchedulerWrites
{
    private const string Protection = "resource.kubernetes.io/delete-protection";

    /// <summary>Allocates all that a slice offers to a ResourceClaim, on a node.</summary>
    /// <param name="client">The server.</param>
    /// <param name="slice">What is taken: each device for the request of its name.</param>
    /// <param name="ns">The ResourceClaim's namespace.</param>
    /// <param name="name">Its name.</param>
    /// <param name="node">The node.</param>
    /// <param name="pod">The pod that it is reserved for; null: none.</param>
    public static async Task<Resourcev1ResourceClaim> AllocateAsync(
        IEntityClient client,
        V1ResourceSlice slice,
        string ns,
        string name,
        string node,
        string? pod
    )
    {
        Resourcev1ResourceClaim resource =
            await client.GetAsync<Resourcev1ResourceClaim>(name, ns)
            ?? throw new InvalidOperationException($"there is no ResourceClaim {ns}/{name}");
        // What is allocated must not go before it is deallocated.
        resource.Metadata.Finalizers = [Protection];
        resource = await client.UpdateAsync(resource);
        resource.Status = new V1ResourceClaimStatus
        {
            Allocation = new V1AllocationResult
            {
                AllocationTimestamp = DateTime.UtcNow,
                NodeSelector = new V1NodeSelector
                {
                    NodeSelectorTerms =
                    [
                        new V1NodeSelectorTerm
                        {
                            MatchFields =
                            [
                                new V1NodeSelectorRequirement
                                {
                                    Key = "metadata.name",
                                    OperatorProperty = "In",
                                    Values = [node],
                                },
                            ],
                        },
                    ],
                },
                Devices = new V1DeviceAllocationResult
                {
                    Results =
                    [
                        .. slice.Spec.Devices.Select(d => new V1DeviceRequestAllocationResult
                        {
                            Driver = slice.Spec.Driver,
                            Pool = slice.Spec.Pool.Name,
                            Device = d.Name,
                            Request = d.Name,
                            BindingConditions = d.BindingConditions,
                            BindingFailureConditions = d.BindingFailureConditions,
                        }),
                    ],
                },
            },
            ReservedFor = pod is null
                ? null
                :
                [
                    new V1ResourceClaimConsumerReference
                    {
                        Resource = "pods",
                        Name = pod,
                        Uid = "uid-" + pod,
                    },
                ],
        };
        return await client.UpdateStatusAsync(resource);
    }

    /// <summary>No pod has it any more; one that is gone already stays so.</summary>
    public static async Task DeallocateAsync(IEntityClient client, string ns, string name)
    {
        if (await client.GetAsync<Resourcev1ResourceClaim>(name, ns) is not { } resource)
            return;
        resource.Status = new V1ResourceClaimStatus();
        resource = await client.UpdateStatusAsync(resource);
        resource.Metadata.Finalizers = null;
        await client.UpdateAsync(resource);
    }
}
