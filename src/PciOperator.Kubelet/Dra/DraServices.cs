using Grpc.Core;
using PciOperator.Kubelet.Wire.DraV1;

namespace PciOperator.Kubelet;

/// <summary>DRA as kubelets from 1.34 ask it.</summary>
internal sealed class DraService(ClaimHandout handout) : Wire.DraV1.DRAPlugin.DRAPluginBase
{
    public override Task<NodePrepareResourcesResponse> NodePrepareResources(
        NodePrepareResourcesRequest request,
        ServerCallContext context
    ) => DraAnswers.PrepareAsync(handout, request);

    public override Task<NodeUnprepareResourcesResponse> NodeUnprepareResources(
        NodeUnprepareResourcesRequest request,
        ServerCallContext context
    ) => DraAnswers.UnprepareAsync(handout, request);
}

/// <summary>DRA as kubelets before 1.34 ask it: the same, under another name.</summary>
internal sealed class DraBetaService(ClaimHandout handout) : Wire.DraV1Beta1.DRAPlugin.DRAPluginBase
{
    public override Task<NodePrepareResourcesResponse> NodePrepareResources(
        NodePrepareResourcesRequest request,
        ServerCallContext context
    ) => DraAnswers.PrepareAsync(handout, request);

    public override Task<NodeUnprepareResourcesResponse> NodeUnprepareResources(
        NodeUnprepareResourcesRequest request,
        ServerCallContext context
    ) => DraAnswers.UnprepareAsync(handout, request);
}

/// <summary>What both versions answer.</summary>
internal static class DraAnswers
{
    public static async Task<NodePrepareResourcesResponse> PrepareAsync(ClaimHandout handout, NodePrepareResourcesRequest request)
    {
        var response = new NodePrepareResourcesResponse();
        foreach ((string uid, HandoutAnswer answer) in await handout.PrepareAsync(request.Claims.Select(Claim)))
        {
            var claim = new NodePrepareResourceResponse { Error = answer.Error ?? "" };
            foreach (HandedDevice device in answer.Devices)
            {
                var one = new Device { PoolName = device.Pool, DeviceName = device.Device };
                one.RequestNames.Add(device.Request);
                one.CdiDeviceIds.AddRange(device.CdiIds);
                claim.Devices.Add(one);
            }

            response.Claims[uid] = claim;
        }

        return response;
    }

    public static async Task<NodeUnprepareResourcesResponse> UnprepareAsync(ClaimHandout handout, NodeUnprepareResourcesRequest request)
    {
        var response = new NodeUnprepareResourcesResponse();
        foreach ((string uid, HandoutAnswer answer) in await handout.UnprepareAsync(request.Claims.Select(Claim)))
            response.Claims[uid] = new NodeUnprepareResourceResponse { Error = answer.Error ?? "" };
        return response;
    }

    private static ClaimReference Claim(Claim claim) => new(claim.Namespace, claim.Name, claim.Uid);
}
