# A kubelet on another gRPC stack (grpcio): it finds the plugins of a host, asks them what a kubelet asks, and prints what they answered, as JSON.
# Messages are encoded here by hand: no generated code, and none of the plugins' own, stands between the wire and what is printed.
import json
import queue
import sys
from concurrent import futures

import grpc

root, claim_namespace, claim_name, claim_uid, resource = sys.argv[1:6]


def raw(data):
    return data


def field(number, value):
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def varint(number):
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def fields(data):
    at = 0

    def read():
        nonlocal at
        number = shift = 0
        while True:
            byte = data[at]
            at += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    while at < len(data):
        tag = read()
        if tag & 7 == 2:
            length = read()
            yield tag >> 3, data[at : at + length]
            at += length
        elif tag & 7 == 0:
            yield tag >> 3, read()
        else:
            raise ValueError("wire type %d" % (tag & 7))


def all_of(data, number):
    return [v for n, v in fields(data) if n == number]


def texts(data, number):
    return [v.decode() for v in all_of(data, number)]


def dial(path):
    return grpc.insecure_channel("unix:" + path)


def ask(channel, method, message=b""):
    return channel.unary_unary(method, request_serializer=raw, response_deserializer=raw)(message, timeout=30, wait_for_ready=True)


registered = queue.Queue()


def register(request, context):
    registered.put(request)
    return b""


def list_pods(request, context):
    devices = field(1, resource) + field(2, "gpu")
    return field(1, field(1, "vm-1") + field(2, claim_namespace) + field(3, field(1, "compute") + field(2, devices)))


def serve(path, service, method, call):
    server = grpc.server(futures.ThreadPoolExecutor(4))
    handler = grpc.unary_unary_rpc_method_handler(call, request_deserializer=raw, response_serializer=raw)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    server.add_insecure_port("unix:" + path)
    server.start()
    return server


def refused(call):
    try:
        call()
        return None
    except grpc.RpcError as error:
        return {"code": error.code().name, "details": error.details()}


servers = [
    serve(root + "/k/device-plugins/kubelet.sock", "v1beta1.Registration", "Register", register),
    serve(root + "/k/pod-resources/kubelet.sock", "v1.PodResourcesLister", "List", list_pods),
]
said = {}

# The DRA plugin.
with dial(root + "/k/plugins_registry/pcioperator.io-reg.sock") as registry:
    info = ask(registry, "/pluginregistration.Registration/GetInfo")
    said["info"] = {"type": texts(info, 1), "name": texts(info, 2), "endpoint": texts(info, 3), "versions": texts(info, 4)}
    ask(registry, "/pluginregistration.Registration/NotifyRegistrationStatus", field(1, 1))
with dial(root + said["info"]["endpoint"][0]) as dra:
    wanted = field(1, field(1, claim_namespace) + field(2, claim_uid) + field(3, claim_name))
    for version in ["v1", "v1beta1"]:
        service = "/k8s.io.kubelet.pkg.apis.dra.%s.DRAPlugin/" % version
        claims = []
        for entry in all_of(ask(dra, service + "NodePrepareResources", wanted), 1):
            (answer,) = all_of(entry, 2)
            devices = [
                {"requests": texts(d, 1), "pool": texts(d, 2), "device": texts(d, 3), "cdi": texts(d, 4)} for d in all_of(answer, 1)
            ]
            claims.append({"uid": texts(entry, 1), "devices": devices, "error": texts(answer, 2)})
        said["prepare " + version] = claims
        back = ask(dra, service + "NodeUnprepareResources", wanted)
        said["unprepare " + version] = [{"uid": texts(e, 1), "error": [t for a in all_of(e, 2) for t in texts(a, 1)]} for e in all_of(back, 1)]
    stream = dra.unary_stream("/v1alpha1.DRAResourceHealth/NodeWatchResources", request_serializer=raw, response_deserializer=raw)(b"", timeout=30)
    said["health"] = [{"pool": texts(i, 1), "device": texts(i, 2), "health": all_of(d, 2)} for d in all_of(next(stream), 1) for i in all_of(d, 1)]
    stream.cancel()

# From here on the claim goes by the device plugin.
print(json.dumps(said), flush=True)
sys.stdin.readline()
said = {}
request = registered.get(timeout=30)
said["register"] = {"version": texts(request, 1), "endpoint": texts(request, 2), "resource": texts(request, 3)}
with dial(root + "/k/device-plugins/" + said["register"]["endpoint"][0]) as plugin:
    service = "/v1beta1.DevicePlugin/"
    said["options"] = all_of(ask(plugin, service + "GetDevicePluginOptions"), 1)
    stream = plugin.unary_stream(service + "ListAndWatch", request_serializer=raw, response_deserializer=raw)(b"", timeout=60)
    said["devices"] = [{"id": texts(d, 1), "health": texts(d, 2)} for d in all_of(next(stream), 1)]
    ids = field(1, "gpu")
    container = all_of(ask(plugin, service + "Allocate", field(1, ids)), 1)[0]
    said["envs"] = {texts(e, 1)[0]: texts(e, 2)[0] for e in all_of(container, 1)}
    said["nodes"] = [{"container": texts(d, 1), "host": texts(d, 2), "permissions": texts(d, 3)} for d in all_of(container, 3)]
    said["start"] = len(ask(plugin, service + "PreStartContainer", ids))
    said["wrong device"] = refused(lambda: ask(plugin, service + "Allocate", field(1, field(1, "no-such"))))
    stream.cancel()
print(json.dumps(said), flush=True)
for server in servers:
    server.stop(0)
