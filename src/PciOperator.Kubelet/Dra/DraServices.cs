using Grpc.Core;

namespace PciOperator.Kubelet;

/// <summary>DRA as kubelets from 1.34 ask it.</summary>
internal sealed class DraService(ClaimHandout handout) : Wire.DraV1.DRAPlugin.DRAPluginBase
{
    public override async Task<Wire.DraV1.NodePrepareResourcesResponse> NodePrepareResources(
        Wire.DraV1.NodePrepareResourcesRequest request,
        ServerCallContext context
    )
    {
        var response = new Wire.DraV1.NodePrepareResourcesResponse();
        foreach ((string uid, HandoutAnswer answer) in await handout.PrepareAsync(request.Claims.Select(Claim)))
        {
            var claim = new Wire.DraV1.NodePrepareResourceResponse { Error = answer.Error ?? "" };
            foreach (HandedDevice device in answer.Devices)
            {
                var one = new Wire.DraV1.Device { PoolName = device.Pool, DeviceName = device.Device };
                one.RequestNames.Add(device.Request);
                one.CdiDeviceIds.AddRange(device.CdiIds);
                claim.Devices.Add(one);
            }

            response.Claims[uid] = claim;
        }

        return response;
    }

    public override async Task<Wire.DraV1.NodeUnprepareResourcesResponse> NodeUnprepareResources(
        Wire.DraV1.NodeUnprepareResourcesRequest request,
        ServerCallContext context
    )
    {
        var response = new Wire.DraV1.NodeUnprepareResourcesResponse();
        foreach ((string uid, HandoutAnswer answer) in await handout.UnprepareAsync(request.Claims.Select(Claim)))
            response.Claims[uid] = new Wire.DraV1.NodeUnprepareResourceResponse { Error = answer.Error ?? "" };
        return response;
    }

    private static ClaimReference Claim(Wire.DraV1.Claim claim) => new(claim.Namespace, claim.Name, claim.Uid);
}

/// <summary>DRA as kubelets before 1.34 ask it: the same, under another name.</summary>
internal sealed class DraBetaService(ClaimHandout handout) : Wire.DraV1Beta1.DRAPlugin.DRAPluginBase
{
    public override async Task<Wire.DraV1Beta1.NodePrepareResourcesResponse> NodePrepareResources(
        Wire.DraV1Beta1.NodePrepareResourcesRequest request,
        ServerCallContext context
    )
    {
        var response = new Wire.DraV1Beta1.NodePrepareResourcesResponse();
        foreach ((string uid, HandoutAnswer answer) in await handout.PrepareAsync(request.Claims.Select(Claim)))
        {
            var claim = new Wire.DraV1Beta1.NodePrepareResourceResponse { Error = answer.Error ?? "" };
            foreach (HandedDevice device in answer.Devices)
            {
                var one = new Wire.DraV1Beta1.Device { PoolName = device.Pool, DeviceName = device.Device };
                one.RequestNames.Add(device.Request);
                one.CdiDeviceIds.AddRange(device.CdiIds);
                claim.Devices.Add(one);
            }

            response.Claims[uid] = claim;
        }

        return response;
    }

    public override async Task<Wire.DraV1Beta1.NodeUnprepareResourcesResponse> NodeUnprepareResources(
        Wire.DraV1Beta1.NodeUnprepareResourcesRequest request,
        ServerCallContext context
    )
    {
        var response = new Wire.DraV1Beta1.NodeUnprepareResourcesResponse();
        foreach ((string uid, HandoutAnswer answer) in await handout.UnprepareAsync(request.Claims.Select(Claim)))
            response.Claims[uid] = new Wire.DraV1Beta1.NodeUnprepareResourceResponse { Error = answer.Error ?? "" };
        return response;
    }

    private static ClaimReference Claim(Wire.DraV1Beta1.Claim claim) => new(claim.Namespace, claim.Name, claim.Uid);
}
