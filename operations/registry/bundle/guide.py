"""What a bundle tells the person who installs its devices."""

from __future__ import annotations

GUIDE = """\
One folder a device, named as its thing. Check that nothing was changed on the way, here and in each folder:

    sha256sum -c SHA256SUMS
    (cd THING && sha256sum -c SHA256SUMS)

In each folder:

    certificate.pem               the device's certificate
    root-ca.pem                   what the device knows the endpoint by
    connection.json               endpoint, port, MQTT client id, and the topics that the device may use
    aws-iot-device-client.conf    configuration of the AWS IoT Device Client
    private-key.encrypted.pem     the device's key, encrypted; missing where the device has made its own
    SHA256SUMS                    checksums of these files

Copy a folder to its device, into the folder that aws-iot-device-client.conf names, and there decrypt the key. The
passphrase comes by another way than the bundle.

    openssl pkey -in private-key.encrypted.pem -out private-key.pem
    rm private-key.encrypted.pem
    chmod 700 . && chmod 600 private-key.pem && chmod 644 certificate.pem root-ca.pem aws-iot-device-client.conf

A device belongs to its folder alone: never two devices with the same key.
"""
