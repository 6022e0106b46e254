using PciOperator.Vm.Guest;

// What the tests run inside the virtual machine, beside the agent.
const string usage = """
    vfio GROUP ADDRESS...          open the group as a guest would, read each device's config space, map memory for DMA
    vfio-hold GROUP ADDRESS...     the same, then keep everything open until killed
    vfio-hide GROUP ADDRESS...     the same, with the open files on their way through a socket, where nobody sees them
    edu-dma GROUP ADDRESS...       let QEMU's edu device, the first of the group, copy memory by DMA
    churn FILES                    fork processes without end, each with so many files open
    kubelet register               register the agent's DRA plugin as a kubelet does
    kubelet prepare NS NAME UID    NodePrepareResources of a ResourceClaim; a line for each device: request, device, CDI ids
    kubelet unprepare NS NAME UID  NodeUnprepareResources
    kubelet devices RESOURCE NS POD  be the kubelet of the device plugin for one pod, until killed
    measure STATE ROUNDS           bind every VF with journal, guards and read-back against a script that writes the same files
    """;
try
{
    switch (args)
    {
        case ["vfio", var group, .. var addresses]:
            using (var opened = VfioGroup.Open(group, addresses))
                opened.Describe();
            return 0;
        case ["vfio-hold", var group, .. var addresses]:
            using (var opened = VfioGroup.Open(group, addresses))
            {
                opened.Describe();
                Console.WriteLine("holding");
                Thread.Sleep(Timeout.Infinite);
            }

            return 0;
        case ["vfio-hide", var group, .. var addresses]:
            using (var opened = VfioGroup.Open(group, addresses))
            {
                opened.Describe();
                opened.Hide();
                Console.WriteLine("holding");
                Thread.Sleep(Timeout.Infinite);
            }

            return 0;
        case ["edu-dma", var group, .. var addresses]:
            using (var opened = VfioGroup.Open(group, addresses))
                EduDevice.Copy(opened);
            return 0;
        case ["churn", var files]:
            for (int i = 0; i < int.Parse(files); i++)
                Native.Open("/dev/null");
            Native.Become("/bin/busybox", "sh", "-c", "while :; do (:) & (:) & (:) & wait; done");
            return 0;
        case ["kubelet", "register"]:
            Console.WriteLine(await Kubelet.RegisterAsync());
            return 0;
        case ["kubelet", "prepare", var ns, var name, var uid]:
            return await Kubelet.PrepareAsync(ns, name, uid);
        case ["kubelet", "unprepare", var ns, var name, var uid]:
            return await Kubelet.UnprepareAsync(ns, name, uid);
        case ["kubelet", "devices", var resource, var podNamespace, var pod]:
            await new DeviceManager(resource, podNamespace, pod).RunAsync();
            return 0;
        case ["measure", var state, var rounds]:
            using (var measurement = new Measurement(state))
                measurement.Run(int.Parse(rounds));
            return 0;
        default:
            Console.Error.WriteLine(usage);
            return 2;
    }
}
catch (Exception error) when (error is IOException or Grpc.Core.RpcException)
{
    Console.WriteLine(error.Message);
    return 1;
}
