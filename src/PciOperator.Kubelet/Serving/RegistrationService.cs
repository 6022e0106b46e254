using Grpc.Core;
using PciOperator.Kubelet.Wire.PluginRegistration;

namespace PciOperator.Kubelet;

/// <summary>Tells the kubelet what the plugin is, and hears whether it was taken.</summary>
internal sealed class RegistrationService(KubeletOptions options, Action<RegistrationStatus> told) : Registration.RegistrationBase
{
    // Package and service, as the kubelet looks for them (k8s.io/kubelet/pkg/apis/dra), the newest first.
    private static readonly string[] Services = ["v1.DRAPlugin", "v1beta1.DRAPlugin", "v1alpha1.DRAResourceHealth"];

    public override Task<PluginInfo> GetInfo(InfoRequest request, ServerCallContext context)
    {
        var info = new PluginInfo
        {
            Type = "DRAPlugin",
            Name = options.Driver,
            Endpoint = options.ServiceSocket,
        };
        info.SupportedVersions.AddRange(Services);
        return Task.FromResult(info);
    }

    public override Task<RegistrationStatusResponse> NotifyRegistrationStatus(RegistrationStatus request, ServerCallContext context)
    {
        told(request);
        return Task.FromResult(new RegistrationStatusResponse());
    }
}
